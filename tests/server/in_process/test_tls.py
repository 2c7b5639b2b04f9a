"""Mutual TLS over loopback: whom the coordinator lets in, and what the others are told."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from fedcore.core.errors import CertificateError, TransportError
from fedcore.protos.service import FleetStub
from fedcore.protos.v1 import device_pb2
from fedcore.protos.values import Join, Role, Welcome
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.pki.authority import create_authority, issue
from fedcore.storage.pki.certificates import TlsMaterial, load_material
from fedcore.transport.link import Link
from tests.fake_device import open_link
from tests.server.conftest import TinyModel
from tests.tiny_run import PATIENCE_S, Served, serving

Together = Callable[..., Any]


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One authority with a certificate of every kind."""
    folder = tmp_path_factory.mktemp("certs")
    create_authority(folder)
    issue(folder, "coordinator", kind="coordinator")
    issue(folder, "agx-0", kind="device")
    issue(folder, "tiny", kind="class")
    issue(folder, "eval", kind="evaluator")
    return folder


@pytest.fixture
async def served(tiny: TinyModel, certs: Path, tmp_path: Path) -> AsyncIterator[Served]:
    tls = load_material(certs, "coordinator")
    async with serving(tmp_path / "run", tiny.folder, ["run.rounds=1"], tls=tls) as run:
        yield run


async def first_answer(link: Link, join: Join) -> Any:
    try:
        async with link.connect() as stream:
            await stream.send(join)
            return await asyncio.wait_for(stream.receive(), PATIENCE_S)
    finally:
        await link.close()


async def test_a_run_over_mutual_tls_finishes(
    served: Served, tiny: TinyModel, certs: Path, tmp_path: Path, together: Together
) -> None:
    by_name = tiny.device(served, "agx-0", tmp_path, tls=load_material(certs, "agx-0"), inline=False)
    by_class = tiny.device(served, "any-name", tmp_path, tls=load_material(certs, "tiny"))
    assert await together(by_name, by_class) == ["the run has finished"] * 2
    summary = await served.summary()
    assert summary["rounds"][0]["accepted"] == 2
    assert "WITHOUT TLS" not in served.said[0]


@pytest.mark.parametrize(
    ("shown", "name", "device_class", "wanted"),
    [
        ("agx-0", "agx-1", "tiny", "class:tiny or device:agx-1"),
        ("tiny", "agx-1", "large", "class:large or device:agx-1"),
        ("eval", "eval", "tiny", "class:tiny or device:eval"),
    ],
)
async def test_a_certificate_that_names_somebody_else_is_refused(
    shown: str, name: str, device_class: str, wanted: str, served: Served, tiny: TinyModel, certs: Path, tmp_path: Path
) -> None:
    tls = load_material(certs, shown)
    device = tiny.device(served, name, tmp_path, tls=tls, device_class=device_class)
    with pytest.raises(CertificateError) as caught:
        await first_answer(device.link, await device.join())
    kind = {"agx-0": "device", "tiny": "class", "eval": "evaluator"}[shown]
    assert f"came with a certificate for {kind}:{shown}, expected {wanted}" in str(caught.value)
    assert "fedcore certs FOLDER" in str(caught.value)


@pytest.mark.parametrize(("shown", "joins"), [("eval", True), ("agx-0", False)])
async def test_the_evaluator_needs_a_certificate_of_its_own(
    shown: str, joins: bool, served: Served, tiny: TinyModel, certs: Path, tmp_path: Path
) -> None:
    device = tiny.device(
        served,
        "eval",
        tmp_path,
        tls=load_material(certs, shown),
        change=lambda join: replace(join, role=Role.EVALUATOR, profile=None),
    )
    if joins:
        assert isinstance(await first_answer(device.link, await device.join()), Welcome)
        return
    with pytest.raises(CertificateError, match="expected evaluator:eval"):
        await first_answer(device.link, await device.join())


async def test_a_certificate_of_another_authority_does_not_get_through_the_handshake(
    served: Served, tiny: TinyModel, certs: Path, tmp_path: Path
) -> None:
    create_authority(tmp_path / "other")
    issue(tmp_path / "other", "agx-0", kind="device")
    theirs = load_material(tmp_path / "other", "agx-0")
    device = tiny.device(served, "agx-0", tmp_path, tls=theirs)
    with pytest.raises(CertificateError, match=r"use certificates of the same authority, and a host name"):
        await first_answer(device.link, await device.join())
    # The right authority to verify the coordinator with, but a leaf that the coordinator does not trust.
    ours = load_material(certs, "agx-0")
    mixed = TlsMaterial(ca=ours.ca, certificate=theirs.certificate, key=theirs.key)
    device = tiny.device(served, "agx-0", tmp_path, tls=mixed)
    with pytest.raises((CertificateError, TransportError)):
        await first_answer(device.link, await device.join())
    assert not served.events("joined"), "nobody came in"


async def test_nobody_comes_in_without_a_certificate(
    served: Served, tiny: TinyModel, certs: Path, tmp_path: Path
) -> None:
    plain = tiny.device(served, "agx-0", tmp_path)
    with pytest.raises((CertificateError, TransportError)):
        await first_answer(plain.link, await plain.join())
    credentials = grpc.ssl_channel_credentials(root_certificates=(certs / "ca.pem").read_bytes())
    async with grpc.aio.secure_channel(served.address, credentials) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await FleetStub(channel).DescribeRun(device_pb2.DescribeRunRequest(), timeout=PATIENCE_S)
    assert not served.events("joined")


async def test_blobs_go_to_whoever_holds_a_certificate_of_the_run(
    served: Served, tiny: TinyModel, certs: Path, tmp_path: Path
) -> None:
    link = open_link(served.address, load_material(certs, "agx-0"))
    description = await link.describe()
    store = BlobStore(tmp_path / "store")
    ref = next(file for file in description.model_files if file.name == "config.json")
    assert await link.fetch(ref, store) == ref.size
    assert store.read_bytes(ref.id) == (tiny.folder / "config.json").read_bytes()
    await link.close()
