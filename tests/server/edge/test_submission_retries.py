"""A submission's way up: large blobs before it, tries while the stream is up, an end once nobody asks for it."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

import fedcore.server.edge.submissions as module
from fedcore.core.errors import FedcoreError, ProtocolError, TransportError, UpdateLate
from fedcore.core.rounds.tier.commands import Send
from fedcore.protos.tier_values import LeafOutcome, PartialSubmission
from fedcore.protos.values import BlobRef, UploadHeader
from fedcore.server.edge.engine import EdgeEngine
from fedcore.server.edge.notes import EdgeNotes
from fedcore.server.edge.submissions import EdgeSubmissions
from fedcore.server.edge.uplink import EdgeUplink
from fedcore.server.process.tasks import Tasks
from fedcore.storage.blobs.name import blob_name
from fedcore.transport.link import Link
from tests.tiny_tier import small

PARTIAL = BlobRef(id=blob_name(b"partial"), size=1 << 20, name="partial")
SCORES = BlobRef(id=blob_name(b"scores"), size=1 << 20, name="scores")
ORDER = Send(round=3, number=1, devices=("a",), failed=(), parts=())


@dataclass
class Surroundings:
    """Link, uplink, engine and tasks of one edge: `faults` are what the next uploads raise, in order."""

    submission: PartialSubmission
    faults: list[FedcoreError] = field(default_factory=list)
    connected: bool = True
    session: str = "token"
    done: list[tuple[Any, ...]] = field(default_factory=list)
    packed: list[dict[str, Any]] = field(default_factory=list)
    during: Callable[[], None] = lambda: None  # called in every upload

    @property
    def blobs(self) -> "Surroundings":
        return self

    def view(self, blob_id: str) -> memoryview:
        return memoryview(blob_id.encode())

    def leaves(self, part: Any) -> set[str]:
        return set()

    def pack(self, order: Send, times_s: dict[str, float], faults: dict[str, str]) -> PartialSubmission:
        self.packed.append({"times_s": times_s, "faults": faults})
        return self.submission

    def submit(self, work: Callable[..., Any], *arguments: Any) -> "asyncio.Future[Any]":
        future = asyncio.get_running_loop().create_future()
        future.set_result(work(*arguments))
        return future

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self.done.append(("spawned",))
        self.running = asyncio.ensure_future(work)

    async def upload(self, data: memoryview, header: UploadHeader) -> int:
        self.done.append(("upload", header.blob.name, header.session, header.round))
        self.during()
        if self.faults:
            raise self.faults.pop(0)
        return len(data)

    def send(self, message: Any) -> None:
        self.done.append(("send", message))


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Take no time between tries; returns what was waited."""
    waited: list[float] = []

    async def once(transfer: Callable[[], Awaitable[Any]]) -> Any:
        return await transfer()

    async def pause(delay_s: float) -> None:
        waited.append(delay_s)

    monkeypatch.setattr(module, "retrying", once)
    monkeypatch.setattr(module.asyncio, "sleep", pause)
    return waited


def around(*faults: FedcoreError, **changes: Any) -> Surroundings:
    leaf = LeafOutcome(device="a", counted=True, time_s=1.0)
    made = PartialSubmission(round=3, number=1, partial=PARTIAL, scores=SCORES, leaves=(leaf,))
    return Surroundings(**{"submission": made, "faults": list(faults), **changes})


def submissions(outside: Surroundings) -> EdgeSubmissions:
    return EdgeSubmissions(
        name="north",
        link=cast(Link, outside),
        uplink=cast(EdgeUplink, outside),
        engine=cast(EdgeEngine, outside),
        tasks=cast(Tasks, outside),
        notes=EdgeNotes(),
        on_refusal=lambda number, message: outside.done.append(("refused", number, message)),
    )


def kinds(outside: Surroundings) -> list[str]:
    return [str(what[1]) if what[0] == "upload" else str(what[0]) for what in outside.done if what[0] != "spawned"]


async def test_blobs_go_up_before_the_submission_that_names_them() -> None:
    outside = around()
    submissions(outside).begin(ORDER)
    await outside.running
    assert kinds(outside) == ["partial", "scores", "send"] and outside.done[-1] == ("send", outside.submission)
    assert outside.done[1] == ("upload", "partial", "token", 3)


async def test_what_is_small_travels_inside() -> None:
    made = PartialSubmission(round=3, number=1, partial=small(b"sum", "partial"), scores=None, leaves=())
    outside = around(submission=made)
    submissions(outside).begin(ORDER)
    await outside.running
    assert kinds(outside) == ["send"]


async def test_an_upload_that_breaks_is_tried_again_while_the_stream_is_up(pauses: list[float]) -> None:
    outside = around(TransportError("it broke"))
    submissions(outside).begin(ORDER)
    await outside.running
    assert kinds(outside) == ["partial", "partial", "scores", "send"] and pauses == [1.0]


async def test_without_a_stream_a_broken_upload_waits_until_it_is_asked_for_again(pauses: list[float]) -> None:
    outside = around(TransportError("it broke"), connected=False)
    made = submissions(outside)
    made.begin(ORDER)
    await outside.running
    assert kinds(outside) == ["partial"] and pauses == []
    made.send_again(1)
    await outside.running
    assert kinds(outside) == ["partial", "partial", "scores", "send"]


async def test_one_asked_for_while_it_moves_is_sent_once_more_and_not_twice_at_a_time() -> None:
    outside = around()
    made = submissions(outside)
    outside.during = lambda: made.send_again(1) if len(outside.done) == 2 else None
    made.begin(ORDER)
    await outside.running  # the first time, whose last act begins the second
    await outside.running
    assert kinds(outside) == ["partial", "scores", "send"] * 2 and outside.done.count(("spawned",)) == 2


async def test_a_parent_that_has_not_heard_of_the_round_is_asked_thirty_times(pauses: list[float]) -> None:
    outside = around(*(UpdateLate("not open") for _ in range(30)))
    submissions(outside).begin(ORDER)
    await outside.running
    assert kinds(outside) == ["partial"] * 31 + ["scores", "send"] and pauses == [1.0] * 30
    outside = around(*(UpdateLate("not open") for _ in range(31)))
    submissions(outside).begin(ORDER)
    await outside.running
    assert kinds(outside) == ["partial"] * 31 + ["refused"] and outside.done[-1] == ("refused", 1, "not open")


@pytest.mark.parametrize("end", ["answered", "over"])
async def test_one_that_was_answered_or_whose_round_is_over_goes_no_further(end: str) -> None:
    outside = around()
    made = submissions(outside)
    outside.during = made.forget if end == "over" else lambda: made.end(1)
    made.begin(ORDER)
    await outside.running
    assert kinds(outside) == ["partial"], "nothing is sent that nobody waits for"
    made.send_again(1)
    assert outside.done.count(("spawned",)) == 1


async def test_a_refusal_of_what_nobody_wants_any_more_is_not_told() -> None:
    outside = around(ProtocolError("no"))
    made = submissions(outside)
    outside.during = made.forget
    made.begin(ORDER)
    await outside.running
    assert kinds(outside) == ["partial"]


async def test_a_devices_time_counts_from_its_first_push_to_its_first_arrival() -> None:
    outside = around()
    made = submissions(outside)
    made.note_push("a", 10.0)
    made.note_push("a", 12.0)  # the same assignment again, on a newer stream
    made.note_update("a", 15.0)
    made.note_update("a", 19.0)
    made.note_update("b", 15.0)  # pushed by an earlier life of this edge
    made.note_fault("c", "no memory")
    made.begin(ORDER)
    await outside.running
    assert outside.packed == [{"times_s": {"a": 5.0, "b": 0.0}, "faults": {"c": "no memory"}}]
