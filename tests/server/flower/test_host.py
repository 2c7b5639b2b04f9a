"""The parent of an app's devices: nodes, leases and tasks, without a wire and under a clock that a test moves."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.errors import JoinRefused, TransportError
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.protos.values import AppTask, Goodbye, Join, Role, UpdateVerdict, Verdict, Welcome
from fedcore.server.flower.app_queue import Failure
from fedcore.server.flower.host import AHEAD, AppHost, node_id
from fedcore.server.members.sessions import Session
from fedcore.storage.blobs.store import BlobStore
from tests.server.flower.fake_messages import instruction, reply
from tests.server.members.fake_parent import DESCRIPTION, outbox
from tests.server.members.test_admission import JOIN

NO_MODEL = Fingerprint(tensors="", config="", tokenizer="")


class Hosted:
    """A host, and what it reports."""

    def __init__(self, folder: Path) -> None:
        self.now_s, self.reports = 100.0, list[tuple[str, dict[str, Any]]]()
        self.host = AppHost(
            description=replace(DESCRIPTION, fingerprint=NO_MODEL),
            blobs=BlobStore(folder),
            run_config="{}",
            lease_s=4.0,
            report=lambda kind, facts: self.reports.append((kind, facts)),
            clock=lambda: self.now_s,
        )

    async def join(self, name: str = "ada", epoch: int = 1) -> Session:
        session = await self.host.membership.join(join(name, epoch), None)
        (welcome, *tasks) = outbox(session)
        assert isinstance(welcome, Welcome) and welcome.lease_s == 4.0 and welcome.session == session.token
        for task in tasks:
            session.send(task)
        return session

    def push(self, *numbers: int, device: str = "ada") -> None:
        self.host.push([instruction(f"m{number}", device) for number in numbers])

    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.reports]


def join(name: str = "ada", epoch: int = 1) -> Join:
    profile = DeviceProfile(name=name, device_class="app", num_examples=1)
    return replace(JOIN, name=name, device_uuid=name, epoch=epoch, profile=profile, fingerprint=NO_MODEL, labels=())


def numbers(session: Session) -> list[int]:
    return [message.number for message in outbox(session) if isinstance(message, AppTask)]


@pytest.fixture
def hosted(tmp_path: Path) -> Hosted:
    return Hosted(tmp_path)


def test_a_node_id_is_a_devices_own_and_never_one_of_flowers_small_ones() -> None:
    ids = {node_id(f"uuid-{number}") for number in range(100)}
    assert len(ids) == 100 and min(ids) >= 1 << 32 and max(ids) < 1 << 63 and node_id("uuid-0") in ids


async def test_a_device_is_a_node_while_its_stream_is_open_and_a_device_while_its_lease_runs(hosted: Hosted) -> None:
    session = await hosted.join()
    node = node_id("ada")
    assert hosted.host.nodes() == [node] and hosted.host.device(node) == "ada" and hosted.host.device(1) is None
    assert hosted.reports == [("joined", {"device": "ada", "node": str(node), "epoch": 1})]
    hosted.host.membership.leave(session)
    assert hosted.host.nodes() == [] and hosted.host.device(node) == "ada"
    assert hosted.reports[1:] == [("left", {"device": "ada"})]
    hosted.now_s = 103.9
    await looked(hosted)
    assert hosted.host.device(node) == "ada"
    hosted.now_s = 104.0
    await looked(hosted)
    assert hosted.host.device(node) is None and hosted.reports[2:] == [("lost", {"device": "ada"})]


async def looked(hosted: Hosted) -> None:
    """Let `watch` look once."""
    hosted.host.lease_s, lease_s = 0.0, hosted.host.lease_s
    watching = asyncio.ensure_future(hosted.host.watch())
    await asyncio.sleep(0)
    hosted.host.lease_s = lease_s
    await asyncio.sleep(0)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


async def test_a_silent_device_is_lost_with_its_stream_and_its_tasks_fail(hosted: Hosted) -> None:
    session = await hosted.join()
    hosted.push(1)
    hosted.now_s = 104.0
    await looked(hosted)
    assert outbox(session)[-1] is None and hosted.host.nodes() == []
    (ended,) = await hosted.host.collect(["m1"], 0.0)
    assert isinstance(ended.end, Failure) and ended.end.reason == "the device gave no sign of life for 4 s"
    assert hosted.kinds() == ["joined", "task", "lost", "task_failed"]


async def test_others_than_devices_of_an_app_are_refused(hosted: Hosted) -> None:
    for wrong in (replace(join(), fingerprint=JOIN.fingerprint), replace(join(), role=Role.EVALUATOR, profile=None)):
        with pytest.raises(JoinRefused, match="serves a Flower app; join it with: fedcore flower join"):
            await hosted.host.membership.join(wrong, None)
    assert hosted.kinds() == ["refused", "refused"]


async def test_a_device_has_so_many_tasks_ahead_and_gets_the_next_with_each_reply(hosted: Hosted) -> None:
    session = await hosted.join()
    hosted.push(*range(1, AHEAD + 3))
    assert numbers(session) == list(range(1, AHEAD + 1))
    hosted.now_s = 101.5
    hosted.host.membership.receive(session, reply(1))
    task, verdict = outbox(session)
    assert task.number == AHEAD + 1 and verdict == UpdateVerdict(round=1, verdict=Verdict.ACCEPTED)
    assert hosted.reports[-1] == ("reply", {"device": "ada", "number": 1, "time_s": 1.5, "bytes": 0})


async def test_a_device_that_comes_back_gets_its_open_tasks_again(hosted: Hosted) -> None:
    session = await hosted.join()
    hosted.push(1)
    hosted.host.membership.leave(session)
    hosted.push(2)
    assert numbers(session) == [1]
    assert numbers(await hosted.join(epoch=2)) == [1, 2]


async def test_a_message_for_an_unknown_device_fails_at_once(hosted: Hosted) -> None:
    hosted.push(1, device="node 7")
    (ended,) = await hosted.host.collect(["m1"], 60.0)
    assert isinstance(ended.end, Failure) and ended.end.reason == "the device has left"


async def test_a_wait_ends_with_the_first_reply_or_the_stop(hosted: Hosted) -> None:
    session = await hosted.join()
    hosted.push(1, 2)
    waiting = asyncio.ensure_future(hosted.host.collect(["m1", "m2"], 60.0))
    await asyncio.sleep(0)
    hosted.host.membership.receive(session, reply(2))
    assert [ended.task.number for ended in await waiting] == [2]
    waiting = asyncio.ensure_future(hosted.host.collect(["m1"], 60.0))
    await asyncio.sleep(0)
    hosted.host.stop("no more")
    with pytest.raises(TransportError, match="the coordinator has stopped: no more"):
        await waiting
    assert outbox(session)[-2:] == [Goodbye(reason="no more"), None]
    with pytest.raises(TransportError):
        hosted.host.nodes()


async def test_an_upload_belongs_to_the_oldest_open_task(hosted: Hosted) -> None:
    session = await hosted.join()
    hosted.host.upload_started(session, "x", new=True)
    assert hosted.host.queue.uploads == {} and hosted.host.upload_limit(session, 1) is None
    hosted.push(1, 2)
    hosted.host.upload_started(session, "a", new=True)
    hosted.host.upload_started(session, "b", new=False)
    assert hosted.host.queue.uploads == {1: {"a"}} and hosted.host.upload_limit(session, 2) == 2**31 - 1
