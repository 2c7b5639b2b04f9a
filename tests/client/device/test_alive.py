"""The file that says a device is in touch: it moves while a parent is heard, and no longer."""

import asyncio
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import fedcore.client.device.alive as module
from fedcore.client.device.alive import run_with_alive_file
from tests.tiny_run import PATIENCE_S, timeout


def link(heard_s: float) -> Any:
    return SimpleNamespace(heard_s=heard_s)


async def until_touched(file: Path) -> None:
    async with timeout(PATIENCE_S):
        while True:
            if file.is_file() and file.stat().st_mtime:
                return
            await asyncio.sleep(0.005)


async def test_it_moves_while_a_parent_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOUCH_S", 0.005)
    file, parent, over = tmp_path / "alive", link(asyncio.get_running_loop().time()), asyncio.Event()
    working = asyncio.create_task(run_with_alive_file(over.wait(), parent, file))
    for _ in range(3):
        await until_touched(file)
        os.utime(file, (0, 0))
    parent.heard_s -= 2 * module.HEARD_S
    await asyncio.sleep(0.05)
    os.utime(file, (0, 0))
    await asyncio.sleep(0.05)
    assert file.stat().st_mtime == 0, "nobody has been heard for long"
    over.set()
    assert await working is True


async def test_who_was_never_heard_says_nothing(tmp_path: Path) -> None:
    assert await run_with_alive_file(asyncio.sleep(0.02, "done"), link(0.0), tmp_path / "alive") == "done"
    assert not (tmp_path / "alive").exists()


async def test_without_a_file_the_work_is_all_there_is() -> None:
    assert await run_with_alive_file(asyncio.sleep(0, "done"), link(1.0), None) == "done"


async def test_what_the_work_raises_passes(tmp_path: Path) -> None:
    async def fail() -> None:
        raise ValueError("its own")

    with pytest.raises(ValueError, match="its own"):
        await run_with_alive_file(fail(), link(1.0), tmp_path / "alive")
