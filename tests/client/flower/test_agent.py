"""The device's side of a Flower app: every message answered once, whatever the app and the connection do."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.app.error import Error
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto, recorddict_from_proto, recorddict_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.proto.recorddict_pb2 import RecordDict as ProtoRecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedcore.client.device.state import StateFolder
from fedcore.client.flower.agent import AppAgent
from fedcore.core.errors import ProtocolError
from fedcore.protos.values import AppReply, AppTask, BlobRef, UpdateVerdict, Verdict
from fedcore.protos.wire import INLINE_BYTES
from fedcore.storage.blobs.name import blob_name
from tests.client.conftest import WELCOME, FakeLink, FakeStream, broken
from tests.client.flower.conftest import NODE, RUN_ID, message_of
from tests.tiny_run import PATIENCE_S


def counting(fault: Exception | None = None, size: int = 0) -> ClientApp:
    """Answer with the number of messages so far, the configurations, and an array of `size` bytes."""
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        if fault is not None:
            raise fault
        seen = int(context.state.get("seen", MetricRecord({"n": 0}))["n"]) + 1
        context.state["seen"] = MetricRecord({"n": seen})
        content = RecordDict(
            {
                "seen": MetricRecord({"n": seen}),
                "told": ConfigRecord({**context.node_config, **context.run_config, **message.content["question"]}),
            }
        )
        if size:
            content["array"] = ArrayRecord({"a": Array(np.zeros(size, dtype=np.uint8))})
        return Message(content, reply_to=message)

    return app


@dataclass
class Bench:
    agent: AppAgent
    link: FakeLink
    stream: FakeStream
    said: list[str]

    async def push(self, *tasks: AppTask) -> None:
        """Push messages one after the other, each once the last is done."""
        for task in tasks:
            await self.agent.message(task, self.stream)  # type: ignore[arg-type]
            await asyncio.wait_for(asyncio.gather(*self.agent._jobs.values(), return_exceptions=True), PATIENCE_S)

    async def verdict(self, number: int, verdict: Verdict = Verdict.ACCEPTED) -> None:
        await self.agent.message(UpdateVerdict(round=number, verdict=verdict), self.stream)  # type: ignore[arg-type]

    @property
    def replies(self) -> list[AppReply]:
        return self.stream.of(AppReply)

    def blobs(self) -> set[str]:
        return self.agent.state.blobs.names()


@pytest.fixture
def make_bench(tmp_path: Path) -> Callable[[ClientApp], Bench]:
    def make(app: ClientApp) -> Bench:
        link, stream, said = FakeLink(), FakeStream(), []  # type: ignore[var-annotated]
        agent = AppAgent(
            name="cam",
            link=link,  # type: ignore[arg-type]
            state=StateFolder.open(tmp_path / "state"),
            app=app,
            node_config={"partition-id": 4},
            say=said.append,
            retry_s=0.001,
        )
        return Bench(agent, link, stream, said)

    return make


async def joined(bench: Bench) -> Bench:
    await bench.agent.welcome(WELCOME, bench.stream)  # type: ignore[arg-type]
    return bench


def task(number: int = 1, *, inline: bool = True, question: str = "how many?") -> AppTask:
    content = RecordDict({"question": ConfigRecord({"q": question})})
    data = recorddict_to_proto(content).SerializeToString(deterministic=True)
    head = message_to_proto(message_of("query", RecordDict())).SerializeToString()
    return AppTask(
        number=number,
        head=head,
        content=BlobRef(id=blob_name(data), size=len(data), inline=data if inline else b""),
        deadline_s=60.0,
        max_reply_bytes=1 << 20,
        run_config=json.dumps({"lr": 0.5}),
    )


def content_of(reply: AppReply) -> RecordDict:
    assert reply.content is not None and reply.head == b""
    return recorddict_from_proto(ProtoRecordDict.FromString(reply.content.inline))


def error_of(reply: AppReply) -> Error:
    assert reply.content is None
    return message_from_proto(ProtoMessage.FromString(reply.head)).error


async def test_a_message_is_answered_with_both_configurations(make_bench: Callable[[ClientApp], Bench]) -> None:
    bench = await joined(make_bench(counting()))
    await bench.push(task())
    (reply,) = bench.replies
    assert reply.number == 1 and content_of(reply)["seen"]["n"] == 1
    assert dict(content_of(reply)["told"]) == {"partition-id": 4, "lr": 0.5, "q": "how many?"}
    assert bench.said == ["joined", f"message 1: {reply.content.size} bytes up"]  # type: ignore[union-attr]
    await bench.agent.close()


async def test_what_an_app_keeps_outlives_messages_and_processes(make_bench: Callable[[ClientApp], Bench]) -> None:
    bench = await joined(make_bench(counting()))
    await bench.push(task(1), task(2))
    await bench.agent.close()
    again = await joined(make_bench(counting()))
    await again.push(task(3))
    seen = [content_of(reply)["seen"]["n"] for reply in (*bench.replies, *again.replies)]
    assert seen == [1, 2, 3]
    await again.agent.close()


async def test_a_message_that_comes_again_gets_the_same_reply_until_its_verdict(
    make_bench: Callable[[ClientApp], Bench],
) -> None:
    bench = await joined(make_bench(counting()))
    await bench.push(task(), task())
    first, second = bench.replies
    assert first == second and content_of(first)["seen"]["n"] == 1
    assert bench.blobs() == {first.content.id}  # type: ignore[union-attr]
    await bench.verdict(1)
    assert bench.blobs() == set() and bench.agent._replies == {} and bench.agent._jobs == {}
    await bench.push(task())
    assert content_of(bench.replies[2])["seen"]["n"] == 2, "a message after its verdict is another one"
    await bench.agent.close()


async def test_a_message_pushed_again_while_it_is_worked_on_is_worked_on_once(
    make_bench: Callable[[ClientApp], Bench],
) -> None:
    bench = await joined(make_bench(counting()))
    for _ in range(2):
        await bench.agent.message(task(), bench.stream)  # type: ignore[arg-type]
    await asyncio.wait_for(asyncio.gather(*bench.agent._jobs.values()), PATIENCE_S)
    assert len(bench.replies) == 1
    await bench.agent.close()


async def test_an_app_that_raises_answers_with_its_error(make_bench: Callable[[ClientApp], Bench]) -> None:
    bench = await joined(make_bench(counting(fault=ValueError("x" * 900))))
    await bench.push(task())
    (reply,) = bench.replies
    error = error_of(reply)
    assert error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    assert error.reason == f"ValueError: {'x' * 900}"[:500]
    assert bench.said[1].startswith("message 1: ValueError: xxx") and bench.said[2] == "message 1: an error up"
    await bench.verdict(1)
    assert bench.agent._replies == {}
    await bench.agent.close()


async def test_an_error_that_an_app_returns_is_its_answer(make_bench: Callable[[ClientApp], Bench]) -> None:
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        return Message(Error(42, "not today"), reply_to=message)

    bench = await joined(make_bench(app))
    await bench.push(task())
    assert (error_of(bench.replies[0]).code, error_of(bench.replies[0]).reason) == (42, "not today")
    await bench.agent.close()


async def test_large_contents_are_blobs_both_ways_and_do_not_stay(make_bench: Callable[[ClientApp], Bench]) -> None:
    bench = await joined(make_bench(counting(size=INLINE_BYTES + 1)))
    asked = task(inline=False, question="?" * 10)
    bench.link.held[asked.content.id] = task(question="?" * 10).content.inline
    await bench.agent.welcome(replace(WELCOME, session="s2"), bench.stream)  # type: ignore[arg-type]
    await bench.push(asked)
    ((header, data),) = bench.link.uploads
    (reply,) = bench.replies
    assert (header.sender, header.session, header.round) == ("cam", "s2", 1)
    assert reply.content is not None and not reply.content.inline and reply.content.size == len(data)
    assert header.blob.id == reply.content.id and bench.blobs() == {reply.content.id}, "the question is gone"
    await bench.verdict(1, Verdict.LATE)
    assert bench.blobs() == set() and bench.said[-1] == "message 1: the reply is late"
    await bench.agent.close()


async def test_a_reply_that_cannot_be_sent_waits_until_its_message_comes_again(
    make_bench: Callable[[ClientApp], Bench],
) -> None:
    bench = await joined(make_bench(counting()))
    bench.stream.fault = broken()
    await bench.push(task())
    assert bench.replies == [] and bench.said[-1].endswith("the reply is kept and sent once the message comes again")
    bench.stream = FakeStream()
    await joined(bench)
    await bench.push(task())
    assert content_of(bench.replies[0])["seen"]["n"] == 1
    await bench.agent.close()


async def test_a_broken_download_is_tried_again_and_a_wrong_one_is_said(
    make_bench: Callable[[ClientApp], Bench],
) -> None:
    bench = await joined(make_bench(counting()))
    bench.link.faults = [broken(), broken()]
    await bench.push(task(1))
    assert len(bench.replies) == 1
    bench.link.faults = [ProtocolError("blob is not here")]
    await bench.push(task(2))
    assert len(bench.replies) == 1 and bench.said[-1] == "message 2: blob is not here"
    await bench.agent.close()


async def test_a_message_before_the_welcome_waits(make_bench: Callable[[ClientApp], Bench]) -> None:
    bench = make_bench(counting())
    await bench.push(task())
    assert bench.said[-1].startswith("message 1: a message came before the welcome; the reply is kept")
    await joined(bench)
    await bench.push(task())
    assert content_of(bench.replies[0])["seen"]["n"] == 1
    await bench.agent.close()


async def test_a_process_without_an_identity_takes_that_of_its_first_message(
    make_bench: Callable[[ClientApp], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: dict[str, Any] = {}

    class Identity:
        @property
        def run_id(self) -> int:
            if "run_id" not in taken:
                raise RuntimeError("not set")
            return int(taken["run_id"])

        def __setattr__(self, name: str, value: Any) -> None:
            taken[name] = value

    monkeypatch.setattr("fedcore.client.flower.agent.TaskIdentity", Identity())
    bench = await joined(make_bench(counting()))
    await bench.push(task())
    assert taken == {"task_id": 1, "run_id": RUN_ID, "node_id": NODE} and len(bench.replies) == 1
    assert TaskIdentity.run_id == RUN_ID
    await bench.agent.close()


async def test_closing_stops_what_waits_for_a_transfer(make_bench: Callable[[ClientApp], Bench]) -> None:
    bench = await joined(make_bench(counting()))

    async def never(ref: BlobRef, store: Any) -> int:
        await asyncio.Event().wait()
        return 0

    bench.link.fetch = never  # type: ignore[method-assign]
    await bench.agent.message(task(), bench.stream)  # type: ignore[arg-type]
    await asyncio.wait_for(bench.agent.close(), PATIENCE_S)
    assert all(job.cancelled() for job in bench.agent._jobs.values()) and bench.replies == []
