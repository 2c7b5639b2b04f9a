"""Edges over real gRPC: the same bits as a flat fleet, whatever the tree, and nobody counted twice."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
    for name in ("adapter_model.safetensors", "head.safetensors"):
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()


async def flat(tiny: TinyModel, place: Path, together: Together, settings: list[str], **options: Any) -> str:
    async with serving(place / "flat", tiny.folder, settings) as served:
        await together(*(tiny.device(served, name, place / "flat-devices", **options) for name in NAMES))
        await asyncio.wait_for(served.task, PATIENCE_S)
        return global_hash(served)


@pytest.mark.parametrize("aggregator", ["factor-mean", "delta-stack"])
@pytest.mark.parametrize("size", ["tiny", "wide"])
async def test_a_tree_gives_the_same_bits_as_a_flat_fleet(
    size: str, aggregator: str, request: pytest.FixtureRequest, tmp_path: Path, together: Together
) -> None:
    model: TinyModel = request.getfixturevalue(size)
    settings = [*SETTINGS, f'strategy.aggregator="{aggregator}"', f"strategy.ranks=[{1 if size == 'tiny' else 16}]"]
    inline = size == "tiny"
    expected = await flat(model, tmp_path, together, settings, inline=inline)
    place = tmp_path / "tree"
    async with serving(place, model.folder, settings) as served, edging(tmp_path, "north", [served.address]) as north:
        async with edging(tmp_path, "deep", [north.address]) as deep:
            parents = [served.address, north.address, deep.address, deep.address]
            devices = [model.device(served, name, tmp_path / "devices", inline=inline) for name in NAMES]
            for device, parent in zip(devices, parents, strict=True):
                device.lead_to(parent)
            await together(*devices)
            await asyncio.wait_for(served.task, PATIENCE_S)
            assert [len(device.works) for device in devices] == [3] * len(NAMES)
            assert {str(each.verdict) for device in devices for each in device.verdicts} == {"accepted"}
            assert global_hash(served) == expected
            assert "the run has finished" in {await asyncio.wait_for(edge.task, PATIENCE_S) for edge in (north, deep)}
