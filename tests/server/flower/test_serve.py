"""A Flower app over real gRPC: what devices, links and apps do wrong, and what the ServerApp hears of it."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, Result

from fedcore.core.errors import CertificateError, JoinRefused, RunError, TransportError
from fedcore.protos.values import BlobRef, UploadHeader
from fedcore.server.flower import host
from fedcore.server.members import sessions as session
from fedcore.storage.blobs.name import blob_name
from fedcore.storage.pki.authority import create_authority, issue
from fedcore.storage.pki.certificates import load_material
from tests.fake_device import open_link
from tests.fault_proxy import proxying
from tests.flower_app import client_app, server_app
from tests.flower_coordinator import ServedApp, serving_app
from tests.server.conftest import TinyModel
from tests.tiny_run import PATIENCE_S

Main = Callable[[Grid], None]
LARGE = 300_000  # bytes: more than travels inside a message, less than a chunk


def app_of(main: Main) -> ServerApp:
    app = ServerApp()

    @app.main()
    def run(grid: Grid, context: Context) -> None:
        main(grid)

    return app


def nodes(grid: Grid, count: int = 1) -> list[int]:
    while len(found := list(grid.get_node_ids())) < count:
        time.sleep(0.01)
    return found


def forever(grid: Grid) -> None:
    nodes(grid, 9)


def asking(node: int, size: int = 0, **options: float) -> Message:
    content = RecordDict(
        {"config": ConfigRecord({"question": "?"}), "arrays": ArrayRecord({"a": Array(np.zeros(size, dtype=np.uint8))})}
    )
    return Message(content, node, "query", **options)


def echo(answer: Callable[[Message], RecordDict] | None = None) -> ClientApp:
    """Answer with what came, and how many messages there were."""
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        seen = int(context.state.get("seen", MetricRecord({"n": 0}))["n"]) + 1
        context.state["seen"] = MetricRecord({"n": seen})
        content = answer(message) if answer is not None else message.content
        content["seen"] = MetricRecord({"n": seen, "run-config": len(context.run_config)})
        return Message(content, reply_to=message)

    return app


async def asked(served: ServedApp) -> None:
    await served.end()
    for device in served.devices.values():
        assert await device == "the app has finished"


async def test_a_reply_is_the_nodes_own_word_and_its_context_outlives_the_message(tmp_path: Path) -> None:
    replies: list[Message] = []

    def main(grid: Grid) -> None:
        (node,) = nodes(grid)
        for _ in range(2):
            replies.extend(grid.send_and_receive([asking(node)]))

    async with serving_app(app_of(main), tmp_path) as served:
        served.join("one", echo())
        await asked(served)
    assert [reply.content["seen"]["n"] for reply in replies] == [1, 2]
    assert replies[0].content["seen"]["run-config"] == 1 and replies[0].content["config"]["question"] == "?"
    assert replies[0].metadata.dst_node_id == 1 and replies[0].metadata.message_type == "query"
    assert str(replies[0].metadata.src_node_id) == served.events("joined")[0]["node"]


async def test_large_contents_travel_as_blobs_once_each_and_nothing_stays(tmp_path: Path) -> None:
    replies: list[Message] = []

    def main(grid: Grid) -> None:
        content = asking(1, LARGE).content
        replies.extend(grid.send_and_receive([Message(content, node, "query") for node in nodes(grid, 3)]))

    async with serving_app(app_of(main), tmp_path) as served:
        for number in range(3):  # whose replies are equal, byte for byte: one of them is here when the next is sent
            served.join(f"device-{number}", echo())
        await asked(served)
    assert [reply.has_content() for reply in replies] == [True] * 3
    assert all(len(reply.content["arrays"]["a"].numpy()) == LARGE for reply in replies)
    for folder in (tmp_path / "run", *(tmp_path / "devices" / name for name in served.devices)):
        assert not [path for path in (folder / "blobs").rglob("*") if path.is_file()], folder


async def test_an_app_that_raises_is_an_error_reply_and_the_device_stays(tmp_path: Path) -> None:
    replies: list[Message] = []

    def refuse(message: Message) -> RecordDict:
        raise ValueError("no such question")

    def main(grid: Grid) -> None:
        (node,) = nodes(grid)
        replies.extend(grid.send_and_receive([asking(node)]))
        replies.extend(grid.send_and_receive([asking(node)]))

    async with serving_app(app_of(main), tmp_path) as served:
        served.join("one", echo(refuse))
        await asked(served)
    assert [reply.error.code for reply in replies] == [ErrorCode.CLIENT_APP_RAISED_EXCEPTION] * 2
    assert replies[0].error.reason == "ValueError: no such question"


async def test_a_device_that_vanishes_is_an_error_reply_after_its_lease_and_a_strategy_goes_on(tmp_path: Path) -> None:
    results: list[Result] = []
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hang(message: Message, context: Context, call_next: Callable[[Message, Context], Message]) -> Message:
        loop.call_soon_threadsafe(begun.set)
        time.sleep(2.0)
        return call_next(message, context)

    strategy = FedAvg(min_train_nodes=3, min_available_nodes=3, fraction_evaluate=0.0, min_evaluate_nodes=0)
    async with serving_app(server_app(strategy, results, rounds=1, nodes=3), tmp_path, lease_s=0.6) as served:
        for name in ("left", "right"):
            served.join(name, client_app())
        gone = served.join("gone", client_app([hang]))
        await asyncio.wait_for(begun.wait(), PATIENCE_S)
        gone.cancel()
        await served.end()
    assert served.events("lost")[0]["device"] == "gone"
    (failed,) = served.events("task_failed")
    assert failed["message"] == "the device gave no sign of life for 0.6 s" and failed["time_s"] < 3.0
    assert results[0].train_metrics_clientapp[1]["messages"] == 1.0, "the other two make the round"


async def test_a_message_that_is_not_answered_in_time_is_an_error_reply_and_its_late_reply_is_dropped(
    tmp_path: Path,
) -> None:
    replies: list[Message] = []
    slow = [0.6, 0.0]

    def wait(message: Message) -> RecordDict:
        time.sleep(slow.pop(0))
        return message.content

    def main(grid: Grid) -> None:
        (node,) = nodes(grid)
        replies.extend(grid.send_and_receive([asking(node, ttl=0.2)]))
        replies.extend(grid.send_and_receive([asking(node)]))

    async with serving_app(app_of(main), tmp_path, lease_s=1.0) as served:
        served.join("slow", echo(wait))
        await asked(served)
    assert replies[0].error.code == ErrorCode.REPLY_MESSAGE_UNAVAILABLE
    assert replies[0].error.reason == "no reply within 0.2 s"
    assert replies[1].content["seen"]["n"] == 2, "the device went on"


async def test_who_comes_back_within_its_lease_sends_its_reply_and_does_not_work_again(tmp_path: Path) -> None:
    replies: list[Message] = []
    asked_here: list[str] = []
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def note(message: Message) -> RecordDict:
        asked_here.append(message.metadata.message_id)
        loop.call_soon_threadsafe(started.set)
        time.sleep(0.5)
        return message.content

    def main(grid: Grid) -> None:
        (node,) = nodes(grid)
        replies.extend(grid.send_and_receive([asking(node, LARGE)]))

    async with serving_app(app_of(main), tmp_path) as served, proxying(served.address) as proxy:
        served.join("flaky", echo(note), targets=(proxy.address,))
        await asyncio.wait_for(started.wait(), PATIENCE_S)
        proxy.cut_now()
        await asked(served)
    assert len(asked_here) == 1 and replies[0].has_content()
    assert len(served.events("joined")) == 2 and len(served.events("left")) >= 1


async def test_a_device_started_again_is_the_same_node_with_its_context(tmp_path: Path) -> None:
    replies: list[Message] = []
    seen: list[int] = []

    def main(grid: Grid) -> None:
        (node,) = nodes(grid)
        seen.append(node)
        replies.extend(grid.send_and_receive([asking(node)]))
        while list(grid.get_node_ids()):
            time.sleep(0.01)
        seen.extend(nodes(grid))
        replies.extend(grid.send_and_receive([asking(node)]))

    async with serving_app(app_of(main), tmp_path) as served:
        first = served.join("one", echo())
        await served.until("reply")
        first.cancel()
        await served.until("left")
        served.join("one", echo())
        await served.end()
    assert seen[0] == seen[1] and [reply.content["seen"]["n"] for reply in replies] == [1, 2]


async def test_a_device_gets_any_number_of_messages_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "OUTBOX", 4)  # messages; a device so far behind is cut off
    monkeypatch.setattr(host, "AHEAD", 2)
    replies: list[Message] = []

    def main(grid: Grid) -> None:
        (node,) = nodes(grid)
        numbers = grid.push_messages([asking(node) for _ in range(12)])
        while len(replies) < 12:
            replies.extend(grid.pull_messages(numbers))
            time.sleep(0.01)

    async with serving_app(app_of(main), tmp_path) as served:
        served.join("one", echo())
        await asked(served)
    assert sorted(reply.content["seen"]["n"] for reply in replies) == list(range(1, 13))
    assert len(served.events("joined")) == 1


async def test_a_message_for_nobody_is_an_error_reply_at_once(tmp_path: Path) -> None:
    replies: list[Message] = []

    def main(grid: Grid) -> None:
        replies.extend(grid.send_and_receive([asking(4711)]))

    async with serving_app(app_of(main), tmp_path) as served:
        await served.end()
    assert replies[0].error.code == ErrorCode.NODE_UNAVAILABLE


async def test_what_a_server_app_raises_ends_the_run_with_it_and_sends_devices_home(tmp_path: Path) -> None:
    def main(grid: Grid) -> None:
        nodes(grid)
        raise ValueError("a mistake of the app's")

    async with serving_app(app_of(main), tmp_path) as served:
        device = served.join("one", echo())
        with pytest.raises(ValueError, match="a mistake of the app's"):
            await served.end()
        assert await device == "the coordinator stops"


async def test_a_coordinator_that_is_stopped_ends_the_app_at_its_next_call(tmp_path: Path) -> None:
    raised: list[Exception] = []

    def main(grid: Grid) -> None:
        try:
            nodes(grid, 9)
        except TransportError as error:
            raised.append(error)
            raise

    async with serving_app(app_of(main), tmp_path) as served:
        device = served.join("one", echo())
        await served.until("joined")
        served.task.cancel()
        with pytest.raises(RunError, match="stopped on request"):
            await served.end()
        assert await device == "stopped on request"
    assert str(raised[0]) == "the coordinator has stopped: stopped on request"


async def test_a_device_of_fedcores_own_rounds_is_told_where_it_is(tiny: TinyModel, tmp_path: Path) -> None:
    async with serving_app(app_of(forever), tmp_path) as served:
        own = tiny.device(served, "own", tmp_path)  # type: ignore[arg-type]  # it needs an address, no more
        with pytest.raises(JoinRefused, match="serves a Flower app; join it with: fedcore flower join"):
            await own.run()


async def test_only_certificates_of_the_device_or_its_class_are_let_in(tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    create_authority(certs)
    issue(certs, "coordinator", kind="coordinator")
    issue(certs, "cam-1", kind="device")
    issue(certs, "jetson", kind="class")
    replies: list[Message] = []

    def main(grid: Grid) -> None:
        replies.extend(grid.send_and_receive([asking(node, LARGE) for node in nodes(grid, 2)]))

    async with serving_app(app_of(main), tmp_path, tls=load_material(certs, "coordinator")) as served:
        stranger = served.join("stranger", echo(), tls=load_material(certs, "cam-1"))
        with pytest.raises(CertificateError, match="came with a certificate for device:cam-1"):
            await stranger
        served.devices.pop("stranger")
        served.join("cam-1", echo(), tls=load_material(certs, "cam-1"))
        served.join("jetson-7", echo(), tls=load_material(certs, "jetson"), device_class="jetson")
        await asked(served)
    assert [reply.has_content() for reply in replies] == [True, True]


async def test_nobody_uploads_without_a_task_of_its_own(tmp_path: Path) -> None:
    data = b"x" * LARGE
    blob = BlobRef(id=blob_name(data), size=LARGE)
    header = UploadHeader(blob=blob, offset=0, sender="nobody", session="none", round=1)
    async with serving_app(app_of(forever), tmp_path) as served:
        link = open_link(served.address, None)
        try:
            with pytest.raises(TransportError, match="no such session"):
                await link.upload(memoryview(data), header)
        finally:
            await link.close()
