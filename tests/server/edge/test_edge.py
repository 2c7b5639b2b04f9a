"""Edges over real gRPC: the same bits as a flat fleet, whatever the tree, and nobody counted twice."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fake_device import Fault
from tests.server.conftest import TinyModel
from tests.tiny_edge import edging
from tests.tiny_run import PATIENCE_S, serving

Together = Callable[..., Any]
NAMES = ("ada", "bob", "cyd", "dan")
SETTINGS = ["run.rounds=3", f"coordinator.min_devices={len(NAMES)}", "coordinator.quorum=1.0"]


def global_hash(run: Any) -> str:
    """Hash of the final adapter's files."""
    folder = run.folder.adapter
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


async def flat(tiny: TinyModel, place: Path, together: Together, settings: list[str], **options: Any) -> str:
    async with serving(place / "flat", tiny.folder, settings) as served:
        await together(*(tiny.device(served, name, place / "flat-devices", **options) for name in NAMES))
        await asyncio.wait_for(served.task, PATIENCE_S)
        return global_hash(served)


@pytest.mark.parametrize("aggregator", ["factor-mean", "delta-stack", "fedex-lora"])
@pytest.mark.parametrize("size", ["tiny", "wide"])
async def test_a_tree_gives_the_same_bits_as_a_flat_fleet(
    size: str, aggregator: str, request: pytest.FixtureRequest, tmp_path: Path, together: Together
) -> None:
    model: TinyModel = request.getfixturevalue(size)
    settings = [*SETTINGS, f'strategy.aggregator="{aggregator}"', f"strategy.ranks=[{1 if size == 'tiny' else 16}]"]
    inline = size == "tiny"
    expected = await flat(model, tmp_path, together, settings, inline=inline)
    async with (
        serving(tmp_path / "tree", model.folder, settings) as served,
        edging(tmp_path, "north", [served.address]) as north,
        edging(tmp_path, "deep", [north.address]) as deep,
    ):
        parents = [served.address, north.address, deep.address, deep.address]
        devices = [model.device(served, name, tmp_path / "devices", inline=inline) for name in NAMES]
        for device, parent in zip(devices, parents, strict=True):
            device.lead_to(parent)
        await together(*devices)
        await asyncio.wait_for(served.task, PATIENCE_S)
        assert [len(device.assignments) for device in devices] == [3] * len(NAMES)
        assert {str(each.verdict) for device in devices for each in device.verdicts} == {"accepted"}
        assert global_hash(served) == expected
        shifts = {each.shift.round for each in devices}
        assert shifts == ({2} if aggregator == "fedex-lora" else {0}), "brought through the edges, round by round"
        assert "the run has finished" in {await asyncio.wait_for(edge.task, PATIENCE_S) for edge in (north, deep)}


PRUNING = [
    *("strategy.name=fedspine", "strategy.bandit=fixed", "strategy.reward_times=model", "strategy.target_sparsity=0.5"),
    *("strategy.ranks=[1, 2]", "strategy.warmup_rounds=1", "strategy.recovery_rounds=1", "training.codec=bf16+zstd"),
    *("run.rounds=5", f"coordinator.min_devices={len(NAMES)}", "coordinator.quorum=1.0"),
]


@pytest.mark.parametrize("handout", ["whole", "kept"])
async def test_what_is_learned_of_each_device_crosses_the_tiers(
    handout: str, tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    """Rewards, importances and pruning are those of a flat fleet: every leaf's outcome goes up with the partial."""
    expected = await flat(tiny, tmp_path, together, PRUNING)
    async with (
        serving(tmp_path / "tree", tiny.folder, [*PRUNING, f"training.handout={handout}"]) as served,
        edging(tmp_path, "north", [served.address]) as north,
        edging(tmp_path, "south", [served.address]) as south,
        edging(tmp_path, "deep", [south.address]) as deep,
    ):
        devices = [tiny.device(served, name, tmp_path / "devices") for name in NAMES]
        for device, parent in zip(devices, (north, north, deep, deep), strict=True):
            device.lead_to(parent.address)
        await together(*devices)
        await served.summary()
        assert global_hash(served) == expected
        assert any(assignment.rings for device in devices for assignment in device.assignments) == (handout == "kept")
        rewards = [event for event in served.events("reward") if event["reward"] is not None]
        assert len(rewards) == 5 * len(NAMES)
        assert {event["via"] for event in served.events("joined") if event["role"] == "device"} == {"north", "south"}


@pytest.mark.parametrize("moment", ["before the answer", "after the answer"])
async def test_devices_of_a_dead_edge_move_and_count_once(
    moment: str, tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    expected = await flat(tiny, tmp_path, together, SETTINGS)
    async with (
        serving(tmp_path / "tree", tiny.folder, SETTINGS) as served,
        edging(tmp_path, "north", [served.address]) as north,
        edging(tmp_path, "south", [served.address]) as south,
    ):
        slow = asyncio.Event()

        async def hold(assignment: Any) -> None:
            if assignment.round == 2:
                if moment == "before the answer":
                    await north.kill()
                    slow.set()
                await slow.wait()

        ada = tiny.device(served, "ada", tmp_path / "devices", hold=hold)
        others = [tiny.device(served, name, tmp_path / "devices") for name in NAMES[1:]]
        for device, parents in zip([ada, *others], ([north, south], [north, south], [south], [served]), strict=True):
            device.lead_to(*(parent.address for parent in parents))
        running = asyncio.ensure_future(together(ada, *others))
        if moment == "after the answer":
            await served.until("pushed", 2 * len(NAMES))
            await asyncio.sleep(0.3)  # the edge holds what bob sent, and waits for ada
            await north.kill()
            slow.set()
        await running
        await served.summary()
        assert global_hash(served) == expected
        accepted = [(event["device"], event["round"]) for event in served.events("accepted")]
        assert len(accepted) == len(set(accepted)) == 3 * len(NAMES)


async def test_a_silent_device_below_an_edge_costs_one_lease(
    tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    settings = ["run.rounds=1", "coordinator.min_devices=2", "coordinator.quorum=0.5", "coordinator.lease_s=1.0"]
    async with (
        serving(tmp_path / "run", tiny.folder, settings) as served,
        edging(tmp_path, "north", [served.address]) as north,
    ):
        mute = tiny.device(served, "mute", tmp_path, fault=Fault.MUTE)
        good = tiny.device(served, "good", tmp_path)
        for device in (mute, good):
            device.lead_to(north.address)
        await together(mute, good)
        summary = await served.summary()
        assert summary["rounds"][0]["accepted"] == 1
        assert summary["rounds"][0]["duration_s"] < 4.0
        assert {row["device"]: row["status"] for row in summary["rounds"][0]["results"]} == {
            "good": "accepted",
            "mute": "lost",
        }


@pytest.mark.parametrize(
    "fault", [Fault.NAN, Fault.GARBAGE, Fault.WRONG_SHAPES, Fault.CORRUPT_INLINE, Fault.BAD_REPORT]
)
async def test_what_does_not_fit_is_refused_at_the_edge_and_known_above(
    fault: Fault, tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    settings = ["run.rounds=2", "coordinator.min_devices=2", "coordinator.quorum=0.5"]
    async with (
        serving(tmp_path / "run", tiny.folder, settings) as served,
        edging(tmp_path, "north", [served.address]) as north,
    ):
        bad, good = tiny.device(served, "bad", tmp_path, fault=fault), tiny.device(served, "good", tmp_path)
        for device in (bad, good):
            device.lead_to(north.address)
        await together(bad, good)
        summary = await served.summary()
    for each in summary["rounds"]:
        assert {row["device"]: row["status"] for row in each["results"]} == {"bad": "rejected", "good": "accepted"}
    assert {str(each.verdict) for each in bad.verdicts} == {"rejected"}
