"""Revocation over real TLS: cut off within a lease, refused after, at the coordinator and below edges."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fedcore.core.errors import CertificateError, FedcoreError
from fedcore.protos.convert import blob as blob_wire
from fedcore.protos.tier_values import LeafLeft, Revocations
from fedcore.protos.values import BlobRef, Role, UploadHeader, WireAssignment
from fedcore.server.run.run_folder import RunFolder
from fedcore.storage.blobs.name import blob_name
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.pki.authority import CRL
from fedcore.storage.pki.certificates import load_material, read_identity
from fedcore.storage.pki.revocation import revoke
from tests.fake_device import FakeDevice, open_link, put
from tests.server.authority import enrolled_material, make_authority, token_for
from tests.server.conftest import TinyModel
from tests.server.in_process.fake_edge import fake_edge
from tests.server.members.test_enrolment import enrolling_at
from tests.tiny_edge import Edged, edging
from tests.tiny_run import PATIENCE_S, Served, begin, serving, timeout, tiny_config

Together = Callable[..., Any]
LEASE_S = 2.4
SETTINGS = [f"coordinator.lease_s={LEASE_S}", "run.rounds=2", "coordinator.quorum=0.5"]


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    return make_authority(
        tmp_path / "certs",
        ("ada", "device"),
        ("bob", "device"),
        ("eval", "evaluator"),
        ("north", "edge"),
        ("deep", "edge"),
    )


@pytest.fixture
async def served(tiny: TinyModel, certs: Path, tmp_path: Path) -> AsyncIterator[Served]:
    tls = load_material(certs, "coordinator")
    async with serving(tmp_path / "run", tiny.folder, SETTINGS, tls=tls, certs=certs, enrol="127.0.0.1:0") as run:
        yield run


class Held:
    """Devices that hold their answers back until they are released; who is working says so."""

    def __init__(self) -> None:
        self._go_on = {name: asyncio.Event() for name in ("ada", "bob")}
        self.working: set[str] = set()
        self._more = asyncio.Condition()

    def device(
        self, tiny: TinyModel, served: Served, name: str, place: Path, certs: Path, **options: Any
    ) -> FakeDevice:
        async def hold(assignment: WireAssignment) -> None:
            async with self._more:
                self.working.add(name)
                self._more.notify_all()
            await self._go_on[name].wait()

        return tiny.device(served, name, place, tls=load_material(certs, name), hold=hold)

    def release(self, *names: str) -> None:
        for name in names:
            self._go_on[name].set()

    async def until_working(self, *names: str) -> None:
        async with timeout(PATIENCE_S), self._more:
            await self._more.wait_for(lambda: self.working >= set(names))


async def ended(task: "asyncio.Task[Any]") -> FedcoreError:
    """How a member's stay ended; it must not have come to a good end."""
    with pytest.raises(CertificateError) as caught:
        await asyncio.wait_for(asyncio.shield(task), PATIENCE_S)
    return caught.value


async def test_who_is_revoked_is_cut_off_within_a_lease_and_stays_out(
    served: Served, tiny: TinyModel, certs: Path, tmp_path: Path
) -> None:
    held = Held()
    ada, bob = (held.device(tiny, served, name, tmp_path / name, certs) for name in ("ada", "bob"))
    stays = {device.name: asyncio.create_task(device.run()) for device in (ada, bob)}
    await held.until_working("ada", "bob")
    serial = read_identity((certs / "bob.pem").read_bytes()).serial

    revoke(certs, "bob")
    began = time.monotonic()
    await served.until("revoked")
    assert time.monotonic() - began < LEASE_S
    held.release("bob")
    fault = await ended(stays["bob"])
    assert str(fault).startswith(f"the certificate of device:bob (serial {serial:x}) was revoked on ")
    assert len(bob.verdicts) == 0

    (event,) = served.events("revoked")
    assert (event["device"], event["role"], event["serial"]) == ("bob", "device", f"{serial:x}")
    assert served.events("revocations")[0]["certificates"] == 1
    with pytest.raises(CertificateError, match="was revoked"):
        await held.device(tiny, served, "bob", tmp_path / "again", certs).run()
    assert "was revoked on" in served.told("refused", "bob")[0]["message"]
    link = link_of(served, certs, "bob")
    with pytest.raises(CertificateError, match="was revoked"):
        await link.describe()
    await link.close()

    held.release("ada")
    assert await asyncio.wait_for(stays["ada"], PATIENCE_S) == "the run has finished"
    summary = await served.summary()
    assert [each["accepted"] for each in summary["rounds"]] == [1, 1]
    statuses = {row["device"]: row["status"] for row in summary["rounds"][0]["results"]}
    assert statuses == {"ada": "accepted", "bob": "lost"}


def link_of(served: Served, certs: Path, name: str) -> Any:
    return open_link(served.address, load_material(certs, name))


async def test_who_was_revoked_may_enrol_again(served: Served, tiny: TinyModel, certs: Path, tmp_path: Path) -> None:
    revoke(certs, "bob")
    with pytest.raises(CertificateError, match="ask for a join token and enrol again"):
        await tiny.device(served, "bob", tmp_path / "old", tls=load_material(certs, "bob")).run()
    address = await enrolling_at(served)
    fresh = await enrolled_material(address, token_for(certs, "device", "bob"), tmp_path / "mine")
    bob = tiny.device(served, "bob", tmp_path / "new", tls=fresh)
    ada = tiny.device(served, "ada", tmp_path / "ada", tls=load_material(certs, "ada"))
    stays = await asyncio.wait_for(asyncio.gather(ada.run(), bob.run()), PATIENCE_S)
    assert stays == ["the run has finished"] * 2
    await served.summary()


async def test_one_device_of_a_class_is_revoked_by_its_serial(
    served: Served, tiny: TinyModel, certs: Path, tmp_path: Path
) -> None:
    address = await enrolling_at(served)
    materials = [
        await enrolled_material(address, token_for(certs, "class", "tiny"), tmp_path / name, name)
        for name in ("one", "two")
    ]
    revoke(certs, read_identity(materials[0].certificate).serial)
    with pytest.raises(CertificateError, match="the certificate of class:tiny"):
        await tiny.device(served, "one", tmp_path, tls=materials[0]).run()
    two = tiny.device(served, "two", tmp_path, tls=materials[1])
    ada = tiny.device(served, "ada", tmp_path, tls=load_material(certs, "ada"))
    assert await asyncio.wait_for(asyncio.gather(two.run(), ada.run()), PATIENCE_S) == ["the run has finished"] * 2
    await served.summary()


async def test_an_open_upload_is_cut_off(served: Served, tiny: TinyModel, certs: Path, tmp_path: Path) -> None:
    held = Held()
    ada, bob = (held.device(tiny, served, name, tmp_path / name, certs) for name in ("ada", "bob"))
    stays = [asyncio.create_task(device.run()) for device in (ada, bob)]
    await held.until_working("ada", "bob")
    size = bob.assignments[0].max_upload_bytes
    data = bytes(size)
    ref = BlobRef(id=blob_name(data), size=size)
    link = open_link(served.address, load_material(certs, "bob"))
    half = size // 2
    header = UploadHeader(
        blob=ref, offset=0, sender="bob", session=bob.welcomes[-1].session, round=bob.assignments[0].round
    )
    call = await begin_upload(link, header, data[:half])
    revoke(certs, "bob")
    await served.until("revoked")
    with pytest.raises(CertificateError, match="was revoked"):
        await finish_upload(link, call, data[half:])
    with pytest.raises(CertificateError, match="was revoked"):
        await put(link, header, [data])
    await link.close()
    held.release("bob")
    await ended(stays[1])
    held.release("ada")
    await asyncio.wait_for(stays[0], PATIENCE_S)
    await served.summary()


async def begin_upload(link: Any, header: UploadHeader, chunk: bytes) -> Any:
    call = link._stub.PutBlob()
    await link._write(call, blob_wire.put_header(header))
    await call.initial_metadata()
    await link._write(call, blob_wire.put_chunk(chunk))
    return call


async def finish_upload(link: Any, call: Any, chunk: bytes) -> None:
    await link._write(call, blob_wire.put_chunk(chunk))
    await link._raise(call)  # nothing more is written: what crosses a refusal hides its reason


async def test_a_revoked_evaluator_is_cut_off_too(served: Served, tiny: TinyModel, certs: Path, tmp_path: Path) -> None:
    judge = tiny.device(
        served,
        "eval",
        tmp_path,
        tls=load_material(certs, "eval"),
        change=lambda join: replace(join, role=Role.EVALUATOR, profile=None),
    )
    stay = asyncio.create_task(judge.run())
    await served.until("joined")
    revoke(certs, "eval")
    assert "evaluator:eval" in str(await ended(stay))
    assert served.events("revoked")[0]["role"] == "evaluator"


async def test_a_damaged_list_is_reported_and_the_last_good_one_stays(
    served: Served, tiny: TinyModel, certs: Path, tmp_path: Path
) -> None:
    revoke(certs, "bob")
    await served.until("revocations")
    (certs / CRL).write_text("hello")
    (event,) = await served.until("revocations_refused")
    assert f"{CRL}: not an X.509 revocation list" in event["message"]
    with pytest.raises(CertificateError, match="was revoked"):
        await tiny.device(served, "bob", tmp_path, tls=load_material(certs, "bob")).run()
    assert len(served.events("revocations_refused")) == 1


async def test_a_coordinator_does_not_begin_with_a_damaged_list(tiny: TinyModel, certs: Path, tmp_path: Path) -> None:
    (certs / CRL).write_text("hello")
    (tmp_path / "run").mkdir()
    run = begin(
        RunFolder(tmp_path / "run"),
        tiny_config(tiny.folder),
        tiny.folder,
        listening=asyncio.Event(),
        tls=load_material(certs, "coordinator"),
        certs=certs,
    )
    with pytest.raises(CertificateError, match=rf"{CRL}: not an X\.509"):
        await asyncio.wait_for(run.task, PATIENCE_S)
    assert run.said == [] and not run.folder.endpoint.exists()


# --- below edges ---


async def tree(stack: AsyncExitStack, served: Served, certs: Path, place: Path) -> tuple[Edged, Edged]:
    """An edge below the coordinator and another one below it."""
    north = await stack.enter_async_context(edging(place, "north", [served.address], tls=load_material(certs, "north")))
    deep = await stack.enter_async_context(edging(place, "deep", [north.address], tls=load_material(certs, "deep")))
    return north, deep


async def test_who_is_revoked_two_tiers_down_is_cut_off_within_a_lease(
    served: Served, tiny: TinyModel, certs: Path, tmp_path: Path
) -> None:
    held = Held()
    async with AsyncExitStack() as stack:
        north, deep = await tree(stack, served, certs, tmp_path)
        ada, bob = (held.device(tiny, served, name, tmp_path / name, certs) for name in ("ada", "bob"))
        ada.lead_to(north.address)
        bob.lead_to(deep.address)
        stays = {device.name: asyncio.create_task(device.run()) for device in (ada, bob)}
        await held.until_working("ada", "bob")
        revoke(certs, "bob")
        began = time.monotonic()
        (event,) = await served.until("revoked")
        assert time.monotonic() - began < LEASE_S
        assert (event["device"], event["role"], event["via"]) == ("bob", "device", "north")
        held.release("bob")
        assert "device:bob" in str(await ended(stays["bob"]))
        assert any("cut off device bob" in each for each in deep.said)

        for parent in (north.address, deep.address):  # neither in, nor a byte of the model
            link = open_link(parent, load_material(certs, "bob"))
            with pytest.raises(CertificateError, match="was revoked"):
                await link.describe()
            with pytest.raises(CertificateError, match="was revoked"):
                await link.fetch(BlobRef(id=blob_name(b"x"), size=1), BlobStore(tmp_path / "store"))
            await link.close()
            again = held.device(tiny, served, "bob", tmp_path / f"again-{parent[-5:]}", certs)
            again.lead_to(parent)
            with pytest.raises(CertificateError, match="was revoked"):
                await again.run()
        assert (tmp_path / "deep" / CRL).is_file(), "kept for its next start"
        held.release("ada")
        assert await asyncio.wait_for(stays["ada"], PATIENCE_S) == "the run has finished"
        await served.summary()


async def test_an_edge_that_comes_later_hears_of_it_first(
    served: Served, tiny: TinyModel, certs: Path, tmp_path: Path
) -> None:
    revoke(certs, "bob")
    async with AsyncExitStack() as stack:
        _, deep = await tree(stack, served, certs, tmp_path)
        bob = tiny.device(served, "bob", tmp_path, tls=load_material(certs, "bob"))
        bob.lead_to(deep.address)
        with pytest.raises(CertificateError, match="was revoked"):
            await asyncio.wait_for(bob.run(), PATIENCE_S)


async def test_a_revoked_edge_is_cut_off_and_its_devices_move_on(
    served: Served, tiny: TinyModel, certs: Path, tmp_path: Path
) -> None:
    held = Held()
    async with edging(tmp_path, "north", [served.address], tls=load_material(certs, "north")) as north:
        ada, bob = (held.device(tiny, served, name, tmp_path / name, certs) for name in ("ada", "bob"))
        for device in (ada, bob):
            device.lead_to(north.address, served.address)
        stays = [asyncio.create_task(device.run()) for device in (ada, bob)]
        await held.until_working("ada", "bob")
        revoke(certs, "north")
        (event,) = await served.until("revoked")
        assert (event["device"], event["role"]) == ("north", "edge")
        assert "edge:north" in str(await ended(north.task))
        with pytest.raises(CertificateError, match="was revoked"):
            async with edging(
                tmp_path / "again", "north", [served.address], tls=load_material(certs, "north")
            ) as again:
                await asyncio.wait_for(again.task, PATIENCE_S)
        held.release("ada", "bob")
        assert await asyncio.wait_for(asyncio.gather(*stays), PATIENCE_S) == ["the run has finished"] * 2
        rows = (await served.summary())["rounds"][0]["results"]
        assert {row["status"] for row in rows} == {"accepted"}


@pytest.mark.parametrize("takes", [True, False])
async def test_lists_go_to_edges_that_take_them(served: Served, certs: Path, takes: bool) -> None:
    """An edge of an earlier version would end at a message it does not know."""
    revoke(certs, "bob")
    tls = load_material(certs, "north")
    async with fake_edge(served.address, "north", tls=tls, takes_revocations=takes) as edge:
        if takes:
            message = await edge.receive(Revocations)
            assert message.crl == served_list(certs)
        revoke(certs, "ada")
        await served.until("revocations", 2)
        if takes:
            assert (await edge.receive(Revocations)).crl == served_list(certs)
        await edge.stream.send(LeafLeft(device="nobody", revoked=True))
        assert not [each for each in edge.heard if isinstance(each, Revocations)]


def served_list(certs: Path) -> bytes:
    return x509.load_pem_x509_crl((certs / CRL).read_bytes()).public_bytes(Encoding.DER)
