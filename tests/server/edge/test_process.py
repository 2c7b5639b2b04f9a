"""The edge as a process: small, without torch, and gone with the right word and exit code."""

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fedcore.server.edge.process import ENDPOINT
from tests.server.conftest import TinyModel
from tests.tiny_run import PATIENCE_S, Served, serving
from tests.whole.stage import Stage, Started

Together = Callable[..., Any]
IDLE_BYTES = 100 << 20
UNCLEAN = ("Traceback", "Task was destroyed", "never retrieved", "never awaited")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    opened = Stage(tmp_path / "stage")
    yield opened
    opened.close()


async def started(stage: Stage, served: Served, name: str = "north") -> tuple[Started, str]:
    """Start an edge below `served`; return it and its address once it has joined."""
    state = stage.root / name
    process = stage.start(name, "edge", "--upstream", served.address, "--name", name, "--state", state, "--insecure")
    await served.until("joined")
    return process, json.loads((state / ENDPOINT).read_text())["address"]


async def ends(process: Started) -> int:
    code = await asyncio.to_thread(process.ends, PATIENCE_S)
    assert not [words for words in UNCLEAN if words in process.output()], process.output()
    return code


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) << 10


async def test_an_edge_is_small_serves_a_run_and_ends_with_it(
    tiny: TinyModel, tmp_path: Path, stage: Stage, together: Together
) -> None:
    async with serving(tmp_path / "run", tiny.folder) as served:
        edge, address = await started(stage, served)
        assert resident_bytes(edge.process.pid) < IDLE_BYTES
        maps = Path(f"/proc/{edge.process.pid}/maps").read_text()
        assert "numpy" in maps and not [word for word in ("torch", "transformers", "peft") if word in maps]
        devices = [tiny.device(served, name, tmp_path) for name in ("ada", "bob")]
        for device in devices:
            device.lead_to(address)
        await together(*devices)
        assert (await served.summary())["totals"]["void_rounds"] == 0
        assert await ends(edge) == 0
    assert "north: the run has finished" in edge.output()
    assert not (stage.root / "north" / ENDPOINT).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_stopped_edge_lets_its_devices_move_on_at_once(
    number: signal.Signals, tiny: TinyModel, tmp_path: Path, stage: Stage, together: Together
) -> None:
    settings = ["run.rounds=2", "coordinator.lease_s=30.0", "coordinator.quorum=1.0"]
    async with serving(tmp_path / "run", tiny.folder, settings) as served:
        edge, address = await started(stage, served)
        stopped = False

        async def stop(work: Any) -> None:
            nonlocal stopped
            if not stopped:
                stopped = True
                os.kill(edge.process.pid, number)

        devices = [tiny.device(served, name, tmp_path, hold=stop) for name in ("ada", "bob")]
        for device in devices:
            device.lead_to(address, served.address)
        await together(*devices)
        summary = await served.summary()
        assert [each["accepted"] for each in summary["rounds"]] == [2, 2]
        assert summary["totals"]["duration_s"] < 15.0, "nobody waited for a lease"
        assert await ends(edge) == 1
    assert "stopped on request" in edge.output()


async def test_one_state_folder_serves_one_edge(tiny: TinyModel, tmp_path: Path, stage: Stage) -> None:
    async with serving(tmp_path / "run", tiny.folder) as served:
        await started(stage, served)
        words = ("edge", "--upstream", served.address, "--name", "other", "--state", stage.root / "north", "--insecure")
        second = await asyncio.to_thread(stage.run, *words)
        assert second.returncode == 1
        assert "in use by a running edge" in second.stderr.replace("\n", " ") and "--state" in second.stderr
