"""Asking for a shard over real gRPC: from the coordinator, through edges, with certificates, after a resume."""

import asyncio
from pathlib import Path

import pytest

from fedcore.core.errors import CertificateError, JoinRefused
from fedcore.protos.values import Newcomer
from fedcore.storage.pki.authority import create_authority, issue
from fedcore.storage.pki.certificates import TlsMaterial, load_material
from tests.fake_device import open_link
from tests.server.conftest import TinyModel
from tests.tiny_edge import edging
from tests.tiny_run import PATIENCE_S, serving

SHARDS = ["data.shards=3"]


async def shard_of(address: str, name: str, tls: TlsMaterial | None = None, device_class: str = "tiny") -> int:
    """The shard that the parent at `address` gives."""
    link = open_link(address, tls)
    newcomer = Newcomer(name=name, device_class=device_class, wants_shard=True, device_uuid=name)
    try:
        description = await asyncio.wait_for(link.describe(newcomer), PATIENCE_S)
    finally:
        await link.close()
    assert description.shard is not None and description.shard.count == 3
    return description.shard.index


async def test_who_does_not_ask_gets_none(tiny: TinyModel, tmp_path: Path) -> None:
    async with serving(tmp_path / "run", tiny.folder, SHARDS) as served:
        link = open_link(served.address)
        assert (await link.describe()).shard is None
        assert (await link.describe(Newcomer(name="a", device_class="tiny"))).shard is None
        await link.close()
        assert await shard_of(served.address, "b") == 1


async def test_all_parents_give_out_of_one_stock_and_it_lasts(tiny: TinyModel, tmp_path: Path) -> None:
    async with (
        serving(tmp_path / "run", tiny.folder, SHARDS) as served,
        edging(tmp_path, "north", [served.address]) as north,
        edging(tmp_path, "deep", [north.address]) as deep,
    ):
        parents = (deep.address, served.address, north.address)
        given = [await shard_of(parent, name) for parent, name in zip(parents, "abc", strict=True)]
        assert given == [1, 2, 3]
        assert [await shard_of(served.address, name) for name in "cab"] == [3, 1, 2]
        with pytest.raises(JoinRefused, match="all 3 are given"):
            await shard_of(deep.address, "d")
        assert [each["device"] for each in await served.until("refused")] == ["d"]
    async with serving(tmp_path / "run", tiny.folder, resume=True) as resumed:
        assert [await shard_of(resumed.address, name) for name in "bca"] == [2, 3, 1]


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certs")
    create_authority(folder)
    for name, kind in (("coordinator", "coordinator"), ("north", "edge"), ("agx-0", "device"), ("tiny", "class")):
        issue(folder, name, kind=kind)  # type: ignore[arg-type]
    return folder


async def test_a_certificate_must_fit_the_name_or_the_class(tiny: TinyModel, certs: Path, tmp_path: Path) -> None:
    own, of_class = load_material(certs, "agx-0"), load_material(certs, "tiny")
    async with (
        serving(tmp_path / "run", tiny.folder, SHARDS, tls=load_material(certs, "coordinator")) as served,
        edging(tmp_path, "north", [served.address], tls=load_material(certs, "north")) as north,
    ):
        for parent in (served.address, north.address):
            with pytest.raises(CertificateError, match="device:agx-0, expected class:tiny or device:agx-1"):
                await shard_of(parent, "agx-1", own)
            with pytest.raises(CertificateError, match="class:tiny, expected class:other or device:agx-1"):
                await shard_of(parent, "agx-1", of_class, device_class="other")
        assert await shard_of(north.address, "agx-0", own, device_class="other") == 1
        assert await shard_of(served.address, "any", of_class) == 2
