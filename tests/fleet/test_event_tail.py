import asyncio
import json
from pathlib import Path

import pytest

from fleet.event_tail import EventTail, accompanied, follow
from fleet.progress import RunProgress

EVENTS = [{"t": 1.0, "event": "started"}, {"t": 2.0, "event": "refused", "message": "no room"}]


def test_only_whole_new_lines_are_read(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert tail.read() == []
    first, second = (json.dumps(each) for each in EVENTS)
    path.write_text(first + "\n" + second[:7])
    assert tail.read() == EVENTS[:1]
    assert tail.read() == []
    path.write_text(first + "\n" + second + "\n")
    assert tail.read() == EVENTS[1:]


class Shown:
    """A view that remembers."""

    def __init__(self) -> None:
        self.notes: tuple[str, ...] = ()
        self.told = asyncio.Event()

    def show(self, progress: RunProgress) -> None:
        self.notes = progress.notes
        if self.notes:
            self.told.set()


async def test_events_are_shown_beside_the_work_and_no_longer(tmp_path: Path) -> None:
    path, shown = tmp_path / "events.jsonl", Shown()

    async def work() -> str:
        path.write_text("".join(json.dumps(each) + "\n" for each in EVENTS))
        await shown.told.wait()
        return "done"

    assert await asyncio.wait_for(accompanied(work(), follow(path, 3, shown)), 10) == "done"
    assert shown.notes == ("refused: no room",)
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


async def test_what_the_work_raises_is_raised(tmp_path: Path) -> None:
    async def work() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        await accompanied(work(), follow(tmp_path / "events.jsonl", 3, Shown()))
