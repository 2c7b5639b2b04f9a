"""A parent that hangs: its kernel answers for it, and the member goes elsewhere within a lease all the same."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fedcore.transport.parent_connection as module
from tests.fault_proxy import proxying
from tests.server.conftest import TinyModel
from tests.tiny_edge import edging
from tests.tiny_run import serving


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LEAST_SILENCE_S", 0.3)


async def test_a_hung_parent_is_left_for_the_next_within_a_lease(
    tiny: TinyModel,
    tmp_path: Path,
    together: Callable[..., Any],
) -> None:
    settings = ["run.rounds=2", "coordinator.min_devices=1", "coordinator.lease_s=3.0"]
    async with serving(tmp_path / "run", tiny.folder, settings) as served, proxying(served.address) as proxy:
        moved: list[float] = []
        clock = asyncio.get_running_loop().time

        async def hang(assignment: Any) -> None:
            if assignment.round == 1 and not moved:
                proxy.stall()
                moved.append(clock())

        device = tiny.device(served, "ada", tmp_path, hold=hang)
        device.lead_to(proxy.address, served.address)
        await together(device)
        summary = await served.summary()
        assert [each["accepted"] for each in summary["rounds"]] == [1, 1]
        assert len(device.welcomes) == 2, "seated once at the hung parent, once at the next"
        assert summary["rounds"][0]["duration_s"] < 3.0, "a lease"


async def test_a_parent_that_answers_is_never_left(
    tiny: TinyModel,
    tmp_path: Path,
    together: Callable[..., Any],
) -> None:
    settings = ["run.rounds=1", "coordinator.min_devices=1", "coordinator.lease_s=0.9"]
    async with (
        serving(tmp_path / "run", tiny.folder, settings) as served,
        edging(tmp_path, "north", [served.address]) as north,
    ):
        device = tiny.device(served, "ada", tmp_path, hold=lambda _: asyncio.sleep(2.5))
        device.lead_to(north.address, served.address)
        await together(device)
        await served.summary()
        assert len(device.welcomes) == 1
