"""The parent of an app's devices, on a clock that stands still: who is a node, and what becomes of its messages."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from flwr.common.constant import ErrorCode

from fedcore.core.contract.protocols import Json
from fedcore.core.errors import JoinRefused, TransportError
from fedcore.protos.values import AppReply, AppTask, Goodbye, UpdateVerdict, Verdict, Welcome
from fedcore.server.flower.app_queue import Failure, Instruction
from fedcore.server.flower.host import AHEAD, AppHost, node_id
from fedcore.server.members.sessions import Session
from fedcore.storage.blobs.store import BlobStore
from fedcore.transport.payload import put_blob
from tests.server.members.fake_parent import DESCRIPTION, device_join, edge_join, outbox


class Host:
    """A host, and the events that it has reported."""

    def __init__(self, place: Path) -> None:
        self.now_s, self.events = 100.0, list[tuple[str, Json]]()
        self.blobs = BlobStore(place)
        self.host = AppHost(
            description=DESCRIPTION,
            blobs=self.blobs,
            run_config="{}",
            lease_s=3.0,
            report=lambda kind, facts: self.events.append((kind, facts)),
            clock=lambda: self.now_s,
        )

    async def join(self, name: str = "ada", *, epoch: int = 1) -> Session:
        return await self.host.membership.join(device_join(name, epoch=epoch, uuid=f"uuid of {name}"), None)

    def push(self, count: int = 1, device: str = "ada") -> None:
        for number in range(1, count + 1):
            self.host.push(
                [
                    Instruction(
                        metadata=cast(Any, SimpleNamespace(message_id=f"{device} {number}")),
                        device=device,
                        head=b"head",
                        content=put_blob(self.blobs, b"question", "content"),
                        deadline_s=10.0,
                    )
                ]
            )

    def reported(self, kind: str) -> list[Json]:
        return [facts for event, facts in self.events if event == kind]


@pytest.fixture
def made(tmp_path: Path) -> Host:
    return Host(tmp_path)


def numbers(session: Session) -> list[int]:
    """Return the numbers of the tasks that wait to be sent."""
    return [message.number for message in outbox(session) if isinstance(message, AppTask)]


def test_a_node_id_follows_from_the_uuid_alone_and_is_none_of_flowers_small_ones() -> None:
    # sha256("") begins with e3b0c442 98fc1c14: shifted right by one bit, with bit 32 set.
    assert node_id("") == 0x71D86221_4C7E0E0A
    assert node_id("a") != node_id("b") and all(2**32 <= node_id(str(number)) < 2**63 for number in range(100))


async def test_a_device_is_a_node_while_its_stream_is_open_and_known_while_its_lease_runs(made: Host) -> None:
    session = await made.join()
    node = node_id("uuid of ada")
    (welcome,) = outbox(session)
    assert isinstance(welcome, Welcome) and welcome.lease_s == 3.0 and welcome.session == session.token
    assert made.host.nodes() == [node] and made.host.device(node) == "ada" and made.host.device(1) is None
    made.host.membership.leave(session)
    assert made.host.nodes() == [] and made.host.device(node) == "ada"
    assert made.events == [
        ("joined", {"device": "ada", "node": str(node), "epoch": 1}),
        ("left", {"device": "ada"}),
    ]


async def test_a_join_that_is_not_of_this_app_is_refused_with_the_command(made: Host) -> None:
    other = replace(device_join(), fingerprint=replace(DESCRIPTION.fingerprint, config="f" * 64))
    for join in (other, edge_join()):
        with pytest.raises(JoinRefused, match="join it with: fedcore flower join"):
            await made.host.membership.join(join, None)
    assert [facts["device"] for facts in made.reported("refused")] == ["ada", "north"] and made.host.nodes() == []


async def test_a_device_has_at_most_eight_tasks_ahead_and_a_reply_brings_the_next(made: Host) -> None:
    session = await made.join()
    made.push(AHEAD + 2)
    assert numbers(session) == [1, 2, 3, 4, 5, 6, 7, 8]
    made.now_s = 102.5
    made.host.membership.receive(session, AppReply(number=1, head=b""))
    assert outbox(session)[1:] == [UpdateVerdict(round=1, verdict=Verdict.ACCEPTED)]
    assert made.reported("reply") == [{"device": "ada", "number": 1, "time_s": 2.5, "bytes": 0}]
    (over,) = await made.host.collect(["ada 1", "ada 2"], 0.0)
    assert over.task.number == 1 and await made.host.collect(["ada 1", "ada 2"], 0.0) == []


async def test_a_message_waits_for_a_device_within_its_lease_and_fails_without_one(made: Host) -> None:
    made.host.membership.leave(await made.join())
    made.push()
    made.push(device="bob")
    (failed,) = await made.host.collect(["ada 1", "bob 1"], 0.0)
    assert failed.end == Failure(code=ErrorCode.NODE_UNAVAILABLE, reason="the device has left")
    assert numbers(await made.join(epoch=2)) == [1], "sent again on the new stream"


async def test_an_expired_session_is_lost_with_its_tasks(made: Host) -> None:
    session = await made.join()
    made.push()
    made.host.membership.expire(session)
    assert made.reported("lost") == [{"device": "ada"}] and made.reported("left") == []
    (failed,) = made.reported("task_failed")
    assert failed["message"] == "the device gave no sign of life for 3 s"
    assert made.host.device(node_id("uuid of ada")) is None


async def test_a_host_that_has_stopped_sends_devices_home_and_refuses_the_app(made: Host) -> None:
    session = await made.join()
    made.host.stop("enough")
    assert outbox(session)[1:] == [Goodbye(reason="enough"), None]
    with pytest.raises(TransportError, match="the coordinator has stopped: enough"):
        made.host.nodes()
    with pytest.raises(TransportError, match="enough"):
        await made.host.collect([], 0.0)
