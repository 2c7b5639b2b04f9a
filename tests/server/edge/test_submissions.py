"""Submissions go up until they are answered: packed once, uploaded if they are large, sent again on request."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, cast

import pytest

from fedcore.core.errors import ProtocolError, TransportError, UpdateLate
from fedcore.core.rounds.tier.commands import Send
from fedcore.core.rounds.tier.state import PartialId
from fedcore.protos.tier_values import LeafOutcome, PartialSubmission
from fedcore.protos.values import BlobRef, UploadHeader
from fedcore.server.edge import submissions as module
from fedcore.server.edge.engine import EdgeEngine
from fedcore.server.edge.notes import EdgeNotes
from fedcore.server.edge.submissions import LATE_TRIES, EdgeSubmissions
from fedcore.server.edge.uplink import EdgeUplink
from fedcore.server.process.tasks import Tasks
from fedcore.transport.link import Link
from tests.tiny_tier import failure, small

LARGE = BlobRef(id="sha256:" + "a" * 64, size=1 << 20, name="partial")
DEEP = PartialId(child="deep", number=1)


def message(**changes: Any) -> PartialSubmission:
    values: dict[str, Any] = {"partial": small(b"sum"), "scores": None, "leaves": (failure("ada"), failure("cyd"))}
    return PartialSubmission(round=1, number=1, **(values | changes))


def order(number: int = 1, parts: tuple[PartialId, ...] = ()) -> Send:
    return Send(number=number, round=1, devices=("ada",), failed=(), parts=parts)


class Surroundings:
    """Link, uplink, engine, tasks and metrics of the submissions; it notes what they do."""

    def __init__(self) -> None:
        self.connected, self.session = True, "token"
        self.packed = message()
        self.pack_calls: list[tuple[int, dict[str, float], dict[str, str]]] = []
        self.sent: list[PartialSubmission] = []
        self.uploads: list[UploadHeader] = []
        self.faults: list[Exception] = []  # of the next uploads
        self.refusals: list[tuple[int, str]] = []
        self.outcome_names: list[str] = []
        self.spawned: list[Coroutine[Any, Any, None]] = []
        around = cast(Any, self)
        self.submissions = EdgeSubmissions(
            name="north",
            link=cast(Link, around),
            uplink=cast(EdgeUplink, around),
            engine=cast(EdgeEngine, around),
            tasks=cast(Tasks, around),
            notes=cast(EdgeNotes, around),
            on_refusal=lambda number, reason: self.refusals.append((number, reason)),
        )

    @property
    def blobs(self) -> "Surroundings":
        return self

    def view(self, blob_id: str) -> bytes:
        return blob_id.encode()

    def pack(self, order: Send, times_s: dict[str, float], faults: dict[str, str]) -> PartialSubmission:
        self.pack_calls.append((order.number, times_s, faults))
        return replace(self.packed, number=order.number)

    def devices_in(self, key: PartialId) -> set[str]:
        return {"cyd"} if key == DEEP else set()

    def submit(self, function: Any, *arguments: Any) -> "asyncio.Future[Any]":
        future = asyncio.get_running_loop().create_future()
        future.set_result(function(*arguments))
        return future

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.spawned.append(coroutine)

    def send(self, submission: PartialSubmission) -> None:
        self.sent.append(submission)

    async def upload(self, data: bytes, header: UploadHeader) -> None:
        self.uploads.append(header)
        if self.faults:
            raise self.faults.pop(0)

    def outcomes(self, outcomes: list[LeafOutcome]) -> None:
        self.outcome_names += [outcome.device for outcome in outcomes]

    async def settle(self) -> None:
        while self.spawned:
            await self.spawned.pop(0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    monkeypatch.setattr(module, "LATE_PAUSE_S", 0.0)
    monkeypatch.setattr("fedcore.transport.retry.retrying.__kwdefaults__", {"tries": 2, "pause_s": 0.0})


async def test_times_count_from_the_first_push_and_travel_with_the_faults() -> None:
    around = Surroundings()
    for device, now_s in (("ada", 1.0), ("ada", 5.0), ("cyd", 2.0)):
        around.submissions.note_push(device, now_s)
    for device, now_s in (("ada", 4.0), ("ada", 9.0), ("cyd", 1.5), ("eve", 3.0)):
        around.submissions.note_update(device, now_s)
    around.submissions.note_fault("bob", "out of memory")
    around.submissions.begin(order(parts=(DEEP,)))
    await around.settle()
    assert around.pack_calls == [(1, {"ada": 3.0, "cyd": 0.0, "eve": 0.0}, {"bob": "out of memory"})]
    assert around.sent == [message()] and around.uploads == []
    assert around.outcome_names == ["ada"], "the child reports its own devices"


async def test_large_blobs_are_uploaded_before_the_message_goes() -> None:
    around = Surroundings()
    around.packed = message(partial=LARGE, scores=small(b"scores"))
    around.submissions.begin(order())
    await around.settle()
    assert around.uploads == [UploadHeader(blob=LARGE, offset=0, sender="north", session="token", round=1)]
    assert around.sent == [around.packed]


async def test_a_submission_goes_again_until_it_is_answered() -> None:
    around = Surroundings()
    around.submissions.begin(order())
    around.submissions.send_again(1)  # while it is being packed: once more afterwards
    await around.settle()
    assert len(around.sent) == 2
    around.submissions.send_again(1)
    await around.settle()
    assert len(around.sent) == 3
    around.submissions.end(1)
    around.submissions.send_again(1)
    assert around.spawned == []


async def test_a_forgotten_round_sends_nothing_more() -> None:
    around = Surroundings()
    around.submissions.note_push("ada", 1.0)
    around.submissions.note_fault("bob", "x")
    around.submissions.begin(order())
    around.submissions.forget()
    await around.settle()
    assert around.sent == []
    around.submissions.note_update("ada", 4.0)
    around.submissions.begin(order(2))
    await around.settle()
    assert around.pack_calls[1] == (2, {"ada": 0.0}, {}), "nothing of the round before"


async def test_a_broken_upload_goes_again_while_the_stream_is_open() -> None:
    around = Surroundings()
    around.packed = message(partial=LARGE)
    around.faults = [TransportError("broken")] * 3
    around.submissions.begin(order())
    await around.settle()
    assert len(around.uploads) == 4 and len(around.sent) == 1 and around.refusals == []
    around.connected, around.faults = False, [TransportError("broken")] * 2
    around.submissions.send_again(1)
    await around.settle()
    assert len(around.sent) == 1, "the machine asks for it again once the stream is back"


async def test_an_upload_is_late_only_after_many_tries_and_then_refused() -> None:
    around = Surroundings()
    around.packed = message(partial=LARGE)
    around.faults = [UpdateLate("no such round")] * (LATE_TRIES + 1)
    around.submissions.begin(order())
    await around.settle()
    assert around.refusals == [(1, "no such round")] and around.sent == []
    assert len(around.uploads) == LATE_TRIES + 1


async def test_a_refusal_of_an_answered_submission_is_not_reported() -> None:
    around = Surroundings()
    around.packed = message(partial=LARGE)
    around.faults = [ProtocolError("too large")]
    around.submissions.begin(order())
    await around.settle()
    assert around.refusals == [(1, "too large")]
    around.submissions.end(1)
    around.submissions.begin(order(2))
    around.submissions.end(2)
    await around.settle()
    assert around.refusals == [(1, "too large")] and around.sent == []
