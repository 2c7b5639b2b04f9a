"""A file that says that this process is well: its time moves on as long as a parent is heard."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from fedcore.transport.link import Link

T = TypeVar("T")

TOUCH_S = 1.0
HEARD_S = 30.0  # a parent answers three heartbeats a lease, which is 30 s unless configured


async def run_with_alive_file(run: Awaitable[T], link: Link, file: Path | None) -> T:
    """Await `run`; meanwhile touch `file`, where there is one, as long as the parent of `link` is heard.

    A file that grows old says that this process hangs, or reaches no parent. `fedcore health` reads it.
    """
    if file is None:
        return await run
    touching = asyncio.create_task(_touch(file, link))
    try:
        return await run
    finally:
        touching.cancel()
        await asyncio.gather(touching, return_exceptions=True)


async def _touch(file: Path, link: Link) -> None:
    loop = asyncio.get_running_loop()
    while True:
        if link.heard_s and loop.time() - link.heard_s < HEARD_S:
            await asyncio.to_thread(file.touch)
        await asyncio.sleep(TOUCH_S)
