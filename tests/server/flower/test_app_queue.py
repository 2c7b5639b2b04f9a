"""What becomes of an app's messages: answered, failed or overdue, each once, and no blob stays that nobody needs."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from flwr.common.constant import ErrorCode

from fedcore.protos.values import AppReply, AppTask, BlobRef, Verdict
from fedcore.server.flower.app_queue import MAX_REPLY_BYTES, AppQueue, Failure, InFlight, Instruction
from fedcore.storage.blobs.store import BlobStore


class Queue:
    """A queue whose clock stands still, and what it was told of ends."""

    def __init__(self, place: Path) -> None:
        self.now_s, self.ended, self.count = 100.0, list[InFlight](), 0
        self.blobs = BlobStore(place)
        self.queue = AppQueue(
            blobs=self.blobs, run_config="{}", clock=lambda: self.now_s, on_end=lambda flight: self.ended.append(flight)
        )

    def put(self, device: str = "a", content: bytes = b"question", deadline_s: float = 10.0) -> AppTask:
        self.count += 1
        return self.queue.put(
            Instruction(
                metadata=cast(Any, SimpleNamespace(message_id=f"message {self.count}")),
                device=device,
                head=b"head",
                content=self.stored(content),
                deadline_s=deadline_s,
            )
        )

    def stored(self, data: bytes) -> BlobRef:
        return BlobRef(id=self.blobs.put_bytes(data), size=len(data))

    def collect(self, *numbers: int) -> list[InFlight]:
        return self.queue.collect([f"message {number}" for number in numbers])

    @property
    def failures(self) -> list[tuple[int, str]]:
        ends = [flight.end for flight in self.ended]
        return [(end.code, end.reason) for end in ends if isinstance(end, Failure)]


@pytest.fixture
def queue(tmp_path: Path) -> Queue:
    return Queue(tmp_path)


def reply(number: int, content: BlobRef | None = None) -> AppReply:
    return AppReply(number=number, head=b"", content=content)


def test_a_task_is_overdue_at_its_deadline_and_not_before(queue: Queue) -> None:
    queue.put()
    queue.put(deadline_s=11.0)
    queue.now_s = 109.9
    queue.queue.expire()
    assert queue.failures == []
    queue.now_s = 110.0
    queue.queue.expire()
    queue.queue.expire()
    assert queue.failures == [(ErrorCode.REPLY_MESSAGE_UNAVAILABLE, "no reply within 10 s")]
    assert queue.queue.changed.is_set() and [task.number for task in queue.queue.open_of("a")] == [2]


def test_an_answer_ends_a_task_once_and_only_its_own_device_gives_it(queue: Queue) -> None:
    task = queue.put()
    assert queue.queue.reply("b", reply(1)) is Verdict.LATE and queue.queue.reply("a", reply(2)) is Verdict.UNKNOWN
    assert queue.queue.reply("a", reply(0)) is Verdict.UNKNOWN
    assert (queue.queue.limit("a", 1), queue.queue.limit("b", 1), queue.queue.limit("a", 2)) == (
        MAX_REPLY_BYTES,
        None,
        None,
    )
    assert queue.queue.open_of("a") == [task] and queue.ended == []
    for _ in range(2):
        assert queue.queue.reply("a", reply(1)) is Verdict.ACCEPTED, "its verdict may have been lost"
    assert len(queue.ended) == 1 and queue.queue.limit("a", 1) is None and queue.queue.open_of("a") == []
    (flight,) = queue.collect(1)
    assert flight.end == reply(1) and queue.collect(1) == [] and queue.queue.tasks == {}
    assert queue.queue.reply("a", reply(1)) is Verdict.LATE


def test_the_tasks_of_a_device_that_is_gone_fail_and_its_answer_comes_too_late(queue: Queue) -> None:
    for device in "aab":
        queue.put(device)
    queue.queue.fail(["a", "stranger"], "it has left")
    assert queue.failures == [(ErrorCode.NODE_UNAVAILABLE, "it has left")] * 2
    assert queue.queue.reply("a", reply(1)) is Verdict.LATE and len(queue.queue.open_of("b")) == 1


def test_a_content_stays_until_the_last_task_that_needs_it_ends(queue: Queue) -> None:
    tasks = [queue.put(device) for device in "ab"]
    queue.queue.reply("a", reply(1))
    assert queue.blobs.has(tasks[0].content.id)
    queue.queue.reply("b", reply(2))
    assert not queue.blobs.has(tasks[0].content.id)


def test_a_reply_whose_bytes_are_gone_is_asked_for_again(queue: Queue) -> None:
    task, content = queue.put(), queue.stored(b"answer")
    queue.blobs.delete(content.id)
    assert queue.queue.reply("a", reply(1, content)) == task and queue.ended == []
    assert queue.queue.reply("a", reply(1, queue.stored(b"answer"))) is Verdict.ACCEPTED


def test_what_a_collected_task_left_goes_unless_another_still_needs_it(queue: Queue) -> None:
    """Two devices may answer with the very same bytes, and an answer may be what the app asks next."""
    answer, broken = queue.stored(b"answer"), queue.stored(b"broken off")
    for number, device in enumerate("ab", start=1):
        queue.put(device)
        queue.queue.reply(device, reply(number, answer))
    queue.queue.uploads[1] = {answer.id, broken.id}
    (first,) = queue.collect(1)
    queue.queue.forget(first)
    assert queue.blobs.has(answer.id) and not queue.blobs.has(broken.id)
    queue.put("c", content=b"answer")
    (second,) = queue.collect(2)
    queue.queue.forget(second)
    assert queue.blobs.has(answer.id)
    queue.queue.reply("c", reply(3))
    assert not queue.blobs.has(answer.id)
