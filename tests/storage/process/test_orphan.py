import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedcore.storage.process import orphan
from fedcore.storage.process.orphan import PARENT_VARIABLE, parent_to_watch, watch_parent

ROOT = Path(__file__).parents[3]
PATIENCE_S = 20.0


@pytest.mark.parametrize(("value", "pid"), [("123", 123), ("", None), ("x", None), ("-1", None), ("²", None)])
def test_the_parent_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch, value: str, pid: int | None) -> None:
    monkeypatch.setenv(PARENT_VARIABLE, value)
    assert parent_to_watch() == pid


def test_a_process_started_by_hand_watches_no_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PARENT_VARIABLE, raising=False)
    assert parent_to_watch() is None


async def test_without_a_parent_the_watch_ends_at_once() -> None:
    calls: list[int] = []
    await watch_parent(None, lambda: calls.append(1))
    assert calls == []


async def test_a_parent_that_is_gone_already_is_noticed_at_once() -> None:
    calls: list[int] = []
    await asyncio.wait_for(watch_parent(os.getppid() + 1, lambda: calls.append(1)), timeout=1)
    assert calls == [1]


async def test_a_living_parent_is_watched_on_and_the_watch_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orphan, "CHECK_S", 0.01)
    calls: list[int] = []
    watch = asyncio.create_task(watch_parent(os.getppid(), lambda: calls.append(1)))
    await asyncio.sleep(0.1)
    assert not watch.done() and calls == []
    watch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watch


CHILD = """
import asyncio, sys
from pathlib import Path
from fedcore.storage.process.orphan import parent_to_watch, watch_parent

place = Path(sys.argv[1])
(place / "watching").touch()
asyncio.run(watch_parent(parent_to_watch(), (place / "noticed").touch))
"""
PARENT = """
import os, subprocess, sys
from fedcore.storage.process.orphan import PARENT_VARIABLE

environment = {**os.environ, PARENT_VARIABLE: str(os.getpid())}
subprocess.run([sys.executable, "-c", sys.argv[1], sys.argv[2]], env=environment, start_new_session=True)
"""


def test_a_child_notices_that_its_parent_was_killed(tmp_path: Path) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, CHILD, str(tmp_path)], cwd=ROOT)
    try:
        assert _appears(tmp_path / "watching")
        assert not (tmp_path / "noticed").exists()
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert _appears(tmp_path / "noticed")


def _appears(path: Path) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    return path.exists()
