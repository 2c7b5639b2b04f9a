"""A Grid over our coordinator, called from an app's thread: ids, shared contents, replies and their failures."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.app.error import Error
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_to_proto, recorddict_to_proto
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from fedcore.server.flower.grid import CoordinatorGrid
from fedcore.server.flower.host import node_id
from fedcore.storage.blobs.name import blob_name
from tests.server.flower.fake_messages import reply
from tests.server.flower.test_host import Hosted
from tests.tiny_run import PATIENCE_S
from tests.tiny_tier import small

NODE = node_id("ada")


@pytest.fixture
def hosted(tmp_path: Path) -> Hosted:
    return Hosted(tmp_path)


@pytest.fixture(autouse=True)
def identity() -> None:
    """Flower makes messages for a task with an identity only."""
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1


def grid_of(hosted: Hosted, deadline_s: float = 5.0) -> CoordinatorGrid:
    return CoordinatorGrid(hosted.host, asyncio.get_running_loop(), Run.create_empty(run_id=1), deadline_s)


async def called(function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    return await asyncio.to_thread(function, *arguments, **named)


def content(word: str = "?") -> RecordDict:
    return RecordDict({"config": ConfigRecord({"word": word})})


def encoded(word: str) -> bytes:
    return recorddict_to_proto(content(word)).SerializeToString(deterministic=True)


async def test_messages_share_their_content_and_keep_their_deadline(hosted: Hosted) -> None:
    await hosted.join()
    grid, record = grid_of(hosted), content()
    assert await called(grid.get_node_ids) == [NODE] and grid.run.run_id == 1
    messages = [Message(record, NODE, "query", ttl=ttl) for ttl in (1.0, 60.0)]
    ids = await called(grid.push_messages, messages)
    tasks = hosted.host.queue.open_of("ada")
    assert len(set(ids)) == 2 and [task.deadline_s for task in tasks] == [1.0, 5.0]
    assert [task.content.id for task in tasks] == [blob_name(encoded("?"))] * 2
    assert await called(grid.pull_messages, ids) == []


async def test_a_reply_comes_from_the_node_that_was_asked_whatever_it_says_of_itself(hosted: Hosted) -> None:
    session = await hosted.join()
    grid = grid_of(hosted)
    (message_id,) = await called(grid.push_messages, [Message(content(), NODE, "query")])
    hosted.host.membership.receive(session, reply(1, small(encoded("!"))))
    (answer,) = await called(grid.pull_messages, [message_id])
    assert answer.content["config"]["word"] == "!" and answer.metadata.src_node_id == NODE
    assert answer.metadata.reply_to_message_id == message_id and answer.metadata.message_id not in ("", message_id)
    await asyncio.sleep(0)
    assert await called(grid.pull_messages, [message_id]) == [] and hosted.host.queue.tasks == {}


@pytest.mark.parametrize(
    ("head", "data", "code", "words"),
    [
        ("error", None, ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "it raised"),
        ("empty", None, ErrorCode.UNKNOWN, "an empty reply"),
        ("empty", b"\xff" * 9, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, "the reply cannot be read: "),
    ],
)
async def test_what_is_no_content_is_an_error(
    head: str, data: bytes | None, code: int, words: str, hosted: Hosted
) -> None:
    session = await hosted.join()
    grid = grid_of(hosted)
    question = Message(content(), NODE, "query")
    (message_id,) = await called(grid.push_messages, [question])
    error = Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, "it raised")
    said = Message(error, reply_to=question) if head == "error" else Message(RecordDict(), reply_to=question)
    sent = reply(1, None if data is None else small(data))
    object.__setattr__(sent, "head", message_to_proto(said).SerializeToString())
    hosted.host.membership.receive(session, sent)
    (answer,) = await called(grid.pull_messages, [message_id])
    assert answer.has_error() and answer.error.code == code and answer.error.reason.startswith(words)


async def test_a_message_to_an_unknown_node_is_an_error_reply(hosted: Hosted) -> None:
    (answer,) = await called(grid_of(hosted).send_and_receive, [Message(content(), 7, "query")])
    assert answer.error.code == ErrorCode.NODE_UNAVAILABLE and answer.error.reason == "the device has left"
    assert hosted.reports[0][1]["device"] == "node 7"


async def test_replies_within_the_timeout_are_returned_and_the_others_are_not_awaited(hosted: Hosted) -> None:
    session = await hosted.join()
    hosted.host._clock = time.monotonic
    messages = [Message(content(), NODE, "query") for _ in range(2)]
    asking = asyncio.ensure_future(called(grid_of(hosted).send_and_receive, messages, timeout=0.05))
    for _ in messages:
        await asyncio.wait_for(session.outbox.get(), PATIENCE_S)
    hosted.host.membership.receive(session, reply(2, small(encoded("!"))))
    assert [answer.metadata.reply_to_message_id for answer in await asking] == [messages[1].metadata.message_id]
