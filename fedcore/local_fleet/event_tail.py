"""Follow a run's events while they are being written."""

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


class Follower:
    """Shows a run's events while it goes on. `begin` is called once the file holds nothing that will be taken back."""

    def __init__(self, path: Path, total_rounds: int, view: View) -> None:
        """Follow the events file `path`."""
        self._tail = EventTail(path)
        self._progress = RunProgress(total_rounds=total_rounds)
        self._view = view
        self._begun = asyncio.Event()

    def begin(self) -> None:
        """Show events from now on."""
        self._begun.set()

    def look(self) -> None:
        """Show what is new."""
        for event in self._tail.read():
            self._progress = advance(self._progress, event)
        self._view.show(self._progress)

    async def beside(self, work: Awaitable[T]) -> T:
        """Await `work` and show the events meanwhile, the last ones included."""
        looking = asyncio.ensure_future(self._look_on())
        try:
            return await work
        finally:
            looking.cancel()
            if self._begun.is_set():
                self.look()

    async def _look_on(self) -> None:
        await self._begun.wait()
        while True:
            self.look()
            await asyncio.sleep(POLL_S)
