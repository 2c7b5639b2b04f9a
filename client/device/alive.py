"""Telling whoever looks after this process that it is well: a file whose time moves while a parent is heard."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from fedcore.transport.link import Link

T = TypeVar("T")

TOUCH_S = 1.0
HEARD_S = 30.0  # a parent answers three heartbeats a lease, which is 30 s unless configured


async def kept_alive(work: Awaitable[T], link: Link, file: Path | None) -> T:
    """Await `work`; meanwhile touch `file`, where there is one, as long as the parent of `link` is heard.

    A file that grows old says that this process hangs, or has nobody to talk to. `fedcore health` reads it.
    """
    if file is None:
        return await work
    touching = asyncio.create_task(_touch(file, link))
    try:
        return await work
    finally:
        touching.cancel()
        await asyncio.gather(touching, return_exceptions=True)


async def _touch(file: Path, link: Link) -> None:
    loop = asyncio.get_running_loop()
    while True:
        if link.heard_s and loop.time() - link.heard_s < HEARD_S:
            await asyncio.to_thread(file.touch)
        await asyncio.sleep(TOUCH_S)
