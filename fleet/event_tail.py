"""Follow a run's events while they are being written."""

import asyncio
import json
from collections.abc import Awaitable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from fedcore.protocols import Json
from fleet.progress import RunProgress, advance
from fleet.view import View

T = TypeVar("T")

POLL_S = 0.2


class EventTail:
    """Reads what was appended to events.jsonl since the last look."""

    def __init__(self, path: Path) -> None:
        """Begin at the start of `path`, which need not be there yet."""
        self._path = path
        self._offset = 0

    def read(self) -> list[Json]:
        """Return the events of whole new lines."""
        if not self._path.is_file():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


async def follow(path: Path, total_rounds: int, view: View) -> None:
    """Show what is written to the events file `path` from now on, until cancelled."""
    progress, tail = RunProgress(total_rounds=total_rounds), EventTail(path)
    while True:
        for event in tail.read():
            progress = advance(progress, event)
        view.show(progress)
        await asyncio.sleep(POLL_S)


async def accompanied(work: Awaitable[T], beside: Coroutine[Any, Any, None]) -> T:
    """Await `work` while `beside` goes on; it is cancelled at the end."""
    companion = asyncio.ensure_future(beside)
    try:
        return await work
    finally:
        companion.cancel()
