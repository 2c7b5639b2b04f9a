import asyncio
import json
from pathlib import Path

import pytest

from fedcore.local_fleet.event_tail import EventTail, Follower
from fedcore.local_fleet.progress import RunProgress

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


def write(path: Path, *events: dict[str, object]) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(each) + "\n" for each in events)


async def test_events_are_shown_beside_the_work_and_no_longer(tmp_path: Path) -> None:
    path, shown = tmp_path / "events.jsonl", Shown()
    follower = Follower(path, 3, shown)

    async def work() -> str:
        write(path, {"t": 0.0, "event": "refused", "message": "in a round that never closed"})
        path.unlink()  # as a resume cuts it off
        write(path, *EVENTS)
        follower.begin()
        await shown.told.wait()
        write(path, EVENTS[1] | {"message": "at the very end"})
        return "done"

    assert await asyncio.wait_for(follower.beside(work()), 10) == "done"
    assert shown.notes == ("refused: no room", "refused: at the very end")
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1


async def test_what_the_work_raises_is_raised_and_nothing_shown_before_it_began(tmp_path: Path) -> None:
    write(tmp_path / "events.jsonl", *EVENTS)
    shown = Shown()

    async def work() -> None:
        await asyncio.sleep(0)
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        await Follower(tmp_path / "events.jsonl", 3, shown).beside(work())
    assert shown.notes == ()
