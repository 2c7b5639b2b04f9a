"""Follow a run's events while the coordinator writes them."""

import asyncio
import json
from collections.abc import Awaitable
from pathlib import Path
from typing import TypeVar

from fedcore.core.contract.protocols import Json
from fedcore.local_fleet.progress import RunProgress, advance
from fedcore.local_fleet.view import View

T = TypeVar("T")

POLL_S = 0.2


class EventTail:
    """Reads the events appended to events.jsonl since the last read."""

    def __init__(self, path: Path) -> None:
        """Begin at the start of `path`, which need not exist yet."""
        self._path = path
        self._offset = 0

    def read(self) -> list[Json]:
        """Return the new events; a line that is still being written waits for the next call."""
        if not self._path.is_file():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]


class Follower:
    """Shows a run's events while it runs, after `begin`: a resumed run first removes those of its unfinished round."""

    def __init__(self, path: Path, total_rounds: int, view: View) -> None:
        """Follow the events file `path`."""
        self._tail = EventTail(path)
        self._progress = RunProgress(total_rounds=total_rounds)
        self._view = view
        self._may_show = asyncio.Event()

    def begin(self) -> None:
        """Show events from now on."""
        self._may_show.set()

    def look(self) -> None:
        """Show the new events."""
        for event in self._tail.read():
            self._progress = advance(self._progress, event)
        self._view.show(self._progress)

    async def beside(self, work: Awaitable[T]) -> T:
        """Return what `work` returns; show the events while it runs, and the last ones when it ends."""
        watcher = asyncio.ensure_future(self._watch())
        try:
            return await work
        finally:
            watcher.cancel()
            if self._may_show.is_set():
                self.look()

    async def _watch(self) -> None:
        await self._may_show.wait()
        while True:
            self.look()
            await asyncio.sleep(POLL_S)
