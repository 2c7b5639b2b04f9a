"""Edges that say what is not so, over real gRPC: nothing wrong is counted, nobody else pays, and the run goes on."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedcore.core.errors import CertificateError, JoinRefused, ProtocolError, UpdateLate
from fedcore.protos.tier_values import LeafJoined, LeafLeft, LeafRefused, PartialSubmission, RoundShare
from fedcore.protos.values import BlobRef, Role, Verdict, WireAssignment
from fedcore.server.rounds.edge_dispatch import with_small_blobs
from fedcore.storage.blobs.name import blob_name
from fedcore.storage.pki.authority import create_authority, issue
from fedcore.storage.pki.certificates import load_material
from tests.fake_device import FakeDevice
from tests.server.conftest import TinyModel
from tests.server.edge.test_edge import global_hash
from tests.server.in_process.fake_edge import FakeEdge, edge_join, fake_edge
from tests.tiny_edge import edging
from tests.tiny_run import PATIENCE_S, Served, serving
from tests.tiny_tier import failure, small, submitted, with_leaf

Together = Callable[..., Any]


@pytest.fixture(autouse=True)
def brief_farewells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake edges do not hang up by themselves."""
    monkeypatch.setattr("fedcore.server.members.service.LINGER_S", 0.1)


ONE_ROUND = ["run.rounds=1", "coordinator.min_devices=2", "coordinator.quorum=1.0"]


def assignments_of(share: RoundShare, *names: str) -> dict[str, WireAssignment]:
    held = {blob.id: blob.inline for blob in share.blobs}
    return {name: with_small_blobs(assignment, held) for name, assignment in share.assignments if name in names}


def renumbered(submission: PartialSubmission, number: int) -> PartialSubmission:
    return replace(submission, number=number)


class Fleet:
    """A coordinator with `ada` below a fake edge and `bob` on a stream of its own, who waits for `go`."""

    def __init__(self, model: TinyModel, served: Served, place: Path) -> None:
        self.served, self.place, self.go = served, place, asyncio.Event()
        self.ada = model.device(served, "ada", place)
        self.bob: FakeDevice = model.device(served, "bob", place, hold=self._wait)

    async def _wait(self, assignment: WireAssignment) -> None:
        await self.go.wait()

    async def begin(self, edge: FakeEdge) -> tuple[RoundShare, PartialSubmission, "asyncio.Future[Any]"]:
        """Present ada, start bob; return the share, ada's honest answer, and bob's run."""
        await edge.present(await self.ada.join())
        running = asyncio.ensure_future(self.bob.run())
        share = await edge.share()
        return share, submitted(self.place / f"fake-{edge.name}", assignments_of(share, "ada"), number=1), running

    async def end(self, running: "asyncio.Future[Any]") -> Any:
        self.go.set()
        await asyncio.wait_for(running, PATIENCE_S)
        return await self.served.summary()


def statuses(summary: Any) -> dict[str, str]:
    return {row["device"]: row["status"] for row in summary["rounds"][0]["results"]}


async def expected_hash(tiny: TinyModel, place: Path, together: Together) -> str:
    async with serving(place / "flat", tiny.folder, ONE_ROUND) as served:
        await together(*(tiny.device(served, name, place / "flat-devices") for name in ("ada", "bob")))
        await served.summary()
        return global_hash(served)


async def test_a_whole_partial_counts_and_its_number_counts_once(
    tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    expected = await expected_hash(tiny, tmp_path, together)
    async with serving(tmp_path / "run", tiny.folder, ONE_ROUND) as served, fake_edge(served.address, "north") as edge:
        fleet = Fleet(tiny, served, tmp_path)
        _, honest, running = await fleet.begin(edge)
        assert (await edge.submit(honest)).verdict is Verdict.ACCEPTED
        assert (await edge.submit(honest)).verdict is Verdict.ACCEPTED, "its answer may have been lost"
        again = await edge.submit(renumbered(honest, 2))
        assert (again.verdict, again.devices) == (Verdict.OVERLAP, ("ada",))
        summary = await fleet.end(running)
        assert statuses(summary) == {"ada": "accepted", "bob": "accepted"} and global_hash(served) == expected
        assert [each["device"] for each in served.events("accepted")] == ["ada", "bob"]
        assert [each["reason"] for each in served.events("partial_refused")] == ["overlap"]


async def test_claims_that_do_not_hold_cost_nobody_else(tiny: TinyModel, tmp_path: Path) -> None:
    settings = [*ONE_ROUND[:2], "coordinator.quorum=0.5"]
    async with serving(tmp_path / "run", tiny.folder, settings) as served, fake_edge(served.address, "north") as edge:
        fleet = Fleet(tiny, served, tmp_path)
        _, honest, running = await fleet.begin(edge)
        eve = replace(honest, leaves=(*honest.leaves, failure("eve")))
        verdict = await edge.submit(eve)
        assert verdict.verdict is Verdict.REJECTED and "'eve' has no assignment in this round" in verdict.message
        for words, changed in [
            ("counted in a partial that did not come", replace(honest, partial=None)),
            ("importances", with_leaf(honest, "ada", scores_bytes=5)),
            ("expected a report", with_leaf(honest, "ada", report=None)),
            ("partial", replace(honest, partial=small(b"garbage"))),
            ("is not here", replace(honest, partial=BlobRef(id=blob_name(b"never"), size=5))),
            ("other updates than it says", replace(honest, leaves=(replace(honest.leaves[0], device="bob"),))),
            ("failed", replace(honest, leaves=(failure("bob"),), partial=None)),
        ]:
            verdict = await edge.submit(renumbered(changed, 100 + len(edge.heard)))
            assert words in verdict.message or (words == "failed" and verdict.verdict is Verdict.ACCEPTED), words
            edge.heard.append(words)
        summary = await fleet.end(running)
    assert statuses(summary) == {"ada": "rejected", "bob": "accepted"}, "an edge speaks for its own devices only"


async def test_a_number_used_for_two_partials_ends_nothing(tiny: TinyModel, tmp_path: Path) -> None:
    async with serving(tmp_path / "run", tiny.folder, ONE_ROUND) as served, fake_edge(served.address, "north") as edge:
        fleet = Fleet(tiny, served, tmp_path)
        share, honest, running = await fleet.begin(edge)
        assert (await edge.submit(honest)).verdict is Verdict.ACCEPTED
        overlapping = renumbered(honest, 2)
        other = replace(honest, number=2, leaves=(failure("ada"),), partial=None)
        await edge.stream.send(overlapping)
        await edge.stream.send(other)
        words = {(await edge.submit(renumbered(honest, 3))).verdict for _ in range(3)}
        assert words <= {Verdict.OVERLAP, Verdict.REJECTED, Verdict.ACCEPTED} and share.round == 1
        assert statuses(await fleet.end(running)) == {"ada": "accepted", "bob": "accepted"}


@pytest.mark.parametrize("number", [0, 2, 9])
async def test_a_partial_of_another_round_is_late_or_nothing(number: int, tiny: TinyModel, tmp_path: Path) -> None:
    async with serving(tmp_path / "run", tiny.folder, ONE_ROUND) as served, fake_edge(served.address, "north") as edge:
        fleet = Fleet(tiny, served, tmp_path)
        _, honest, running = await fleet.begin(edge)
        assert (await edge.submit(replace(honest, round=number))).verdict is Verdict.LATE
        assert (await edge.submit(renumbered(honest, 2))).verdict is Verdict.ACCEPTED
        assert statuses(await fleet.end(running)) == {"ada": "accepted", "bob": "accepted"}


async def test_an_overlap_with_a_device_that_came_by_itself_is_named_and_refolded(
    tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    expected = await expected_hash(tiny, tmp_path, together)
    async with (
        serving(tmp_path / "run", tiny.folder, ONE_ROUND) as served,
        fake_edge(served.address, "north") as edge,
    ):
        ada, bob = (tiny.device(served, name, tmp_path) for name in ("ada", "bob"))
        await edge.present(await ada.join(), await bob.join())
        share = await edge.share()
        assignments = assignments_of(share, "ada", "bob")
        assert set(assignments) == {"ada", "bob"}
        both = submitted(tmp_path / "both", assignments, number=1)
        moved = asyncio.ensure_future(bob.run())  # bob comes by itself, and is counted
        await served.until("accepted")
        refused = await edge.submit(both)
        assert (refused.verdict, refused.devices) == (Verdict.OVERLAP, ("bob",))
        alone = submitted(tmp_path / "alone", {"ada": assignments["ada"]}, number=2)
        assert (await edge.submit(alone)).verdict is Verdict.ACCEPTED
        await asyncio.wait_for(moved, PATIENCE_S)
        await served.summary()
        assert global_hash(served) == expected
        assert sorted(each["device"] for each in served.events("accepted")) == ["ada", "bob"]


async def test_a_device_that_left_while_it_was_presented_is_no_ghost(tiny: TinyModel, tmp_path: Path) -> None:
    """The edge says so as soon as it is told of a seat nobody sits in; the round does not wait for its deadline."""
    settings = [*ONE_ROUND[:2], "coordinator.quorum=0.5", "coordinator.lease_s=0.6"]
    async with (
        serving(tmp_path / "run", tiny.folder, settings) as served,
        edging(tmp_path, "north", [served.address]) as north,
        fake_edge(north.address, "deep") as deep,
    ):
        ghost, bob = tiny.device(served, "ghost", tmp_path), tiny.device(served, "bob", tmp_path)
        await deep.present(await ghost.join())
        await deep.receive(LeafJoined)
        beating = asyncio.ensure_future(_beat(deep))
        running = asyncio.ensure_future(bob.run())
        await deep.share()
        await deep.stream.send(LeafLeft(device="ghost"))
        summary = await served.summary()
        await asyncio.wait_for(running, PATIENCE_S)
        beating.cancel()
    assert statuses(summary) == {"bob": "accepted", "ghost": "lost"}
    assert summary["rounds"][0]["duration_s"] < 3.0


async def _beat(edge: FakeEdge) -> None:
    while True:
        await asyncio.sleep(0.1)
        await edge.stream.send(LeafLeft(device="nobody"))


async def test_an_edge_uploads_what_its_round_allows_and_nothing_else(tiny: TinyModel, tmp_path: Path) -> None:
    async with serving(tmp_path / "run", tiny.folder, ONE_ROUND) as served, fake_edge(served.address, "north") as edge:
        fleet = Fleet(tiny, served, tmp_path)
        _, honest, running = await fleet.begin(edge)
        data = b"too much"
        ref = BlobRef(id=blob_name(data), size=1 << 40)
        with pytest.raises(ProtocolError, match="expected at most"):
            await edge.upload(data, ref, 1)
        with pytest.raises(UpdateLate, match="north has no open assignment of round 7"):
            await edge.upload(data, replace(ref, size=len(data)), 7)
        assert honest.partial is not None
        await edge.upload(honest.partial.inline, honest.partial, 1)
        named = replace(honest, partial=replace(honest.partial, inline=b""))
        assert (await edge.submit(named)).verdict is Verdict.ACCEPTED
        assert statuses(await fleet.end(running)) == {"ada": "accepted", "bob": "accepted"}
        assert not (served.folder.blobs / "sha256" / honest.partial.id[7:9] / honest.partial.id[9:]).exists()


async def test_two_edges_of_one_name_are_refused_and_the_first_one_stays(tiny: TinyModel, tmp_path: Path) -> None:
    async with (
        serving(tmp_path / "run", tiny.folder) as served,
        edging(tmp_path, "north", [served.address]) as north,
        fake_edge(north.address, "deep"),
    ):
        for target, name in ((served.address, "north"), (north.address, "deep")):
            with pytest.raises(JoinRefused, match=f"another device named {name} is connected"):
                async with fake_edge(target, name, uuid="another"):
                    pass
        assert not north.task.done() and len([e for e in served.events("joined") if e["role"] == "edge"]) == 1


async def test_an_evaluator_is_sent_to_the_coordinator(tiny: TinyModel, tmp_path: Path) -> None:
    async with (
        serving(tmp_path / "run", tiny.folder) as served,
        edging(tmp_path, "north", [served.address]) as north,
    ):
        with pytest.raises(JoinRefused, match="eval: an evaluator joins the coordinator itself, not an edge"):
            async with fake_edge(north.address, "eval", role=Role.EVALUATOR):
                pass


@pytest.fixture(scope="module")
def certs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One authority with a certificate of every kind that matters here."""
    folder = tmp_path_factory.mktemp("certs")
    create_authority(folder)
    issue(folder, "coordinator", kind="coordinator")
    issue(folder, "north", kind="edge")
    issue(folder, "ada", kind="device")
    issue(folder, "tiny", kind="class")
    return folder


async def test_an_edge_checks_certificates_as_the_coordinator_does(
    tiny: TinyModel, certs: Path, tmp_path: Path, together: Together
) -> None:
    tls = {name: load_material(certs, name) for name in ("coordinator", "north", "ada", "tiny")}
    async with serving(tmp_path / "run", tiny.folder, ONE_ROUND, tls=tls["coordinator"]) as served:
        with pytest.raises(CertificateError, match="certificate for device:ada, expected edge:north"):
            async with fake_edge(served.address, "north", tls=tls["ada"]):
                pass
        async with edging(tmp_path, "north", [served.address], tls=tls["north"]) as north:
            thief = tiny.device(served, "bob", tmp_path / "thief", tls=tls["ada"])
            thief.lead_to(north.address)
            with pytest.raises(CertificateError, match="certificate for device:ada, expected class:tiny or device:bob"):
                await asyncio.wait_for(thief.run(), PATIENCE_S)
            with pytest.raises(CertificateError, match="expected edge:deep"):
                async with fake_edge(north.address, "deep", tls=tls["ada"]):
                    pass
            devices = [
                tiny.device(served, name, tmp_path, tls=tls[shown]) for name, shown in (("ada", "ada"), ("bob", "tiny"))
            ]
            for device in devices:
                device.lead_to(north.address)
            await together(*devices)
            assert statuses(await served.summary()) == {"ada": "accepted", "bob": "accepted"}


async def test_a_refusal_by_the_coordinator_reaches_the_device_below_an_edge(tiny: TinyModel, tmp_path: Path) -> None:
    async with (
        serving(tmp_path / "run", tiny.folder) as served,
        edging(tmp_path, "north", [served.address]) as north,
        fake_edge(north.address, "deep") as deep,
    ):
        device = tiny.device(served, "ada", tmp_path, labels=("a", "zebra"))
        device.lead_to(north.address)
        with pytest.raises(JoinRefused, match=r"ada has rows labelled \['zebra'\]"):
            await asyncio.wait_for(device.run(), PATIENCE_S)
        await deep.present(await device.join())
        refused = await deep.receive(LeafRefused)
        assert (refused.device, refused.error) == ("ada", "JoinRefused") and "zebra" in refused.message
        assert {each["device"] for each in served.events("refused")} == {"ada"}
        with pytest.raises(ProtocolError):  # only devices are presented: its stream ends
            await deep.present(replace(edge_join("bob"), role=Role.EVALUATOR))
            await deep.receive(LeafRefused)
