"""Tasks of an app end once, with a reply or a failure, and their blobs go when no task needs them any more."""

from pathlib import Path

import pytest
from flwr.common.constant import ErrorCode

from fedcore.protos.values import BlobRef, Verdict
from fedcore.server.flower.app_queue import MAX_REPLY_BYTES, AppQueue, Failure, InFlight
from fedcore.storage.blobs.store import BlobStore
from tests.server.flower.fake_messages import instruction, reply
from tests.tiny_tier import small


class Queued:
    """A queue under a clock that a test moves."""

    def __init__(self, folder: Path) -> None:
        self.now_s, self.ends, self.blobs = 100.0, list[int](), BlobStore(folder)
        self.queue = AppQueue(blobs=self.blobs, run_config="{}", clock=lambda: self.now_s, on_end=self._note)

    def _note(self, in_flight: InFlight) -> None:
        self.ends.append(in_flight.task.number)

    def stored(self, data: bytes) -> BlobRef:
        return BlobRef(id=self.blobs.put_bytes(data), size=len(data))


@pytest.fixture
def queued(tmp_path: Path) -> Queued:
    return Queued(tmp_path)


def test_tasks_are_numbered_and_open_until_their_reply(queued: Queued) -> None:
    queue = queued.queue
    tasks = [queue.put(instruction(f"m{number}")) for number in (1, 2)]
    assert [task.number for task in tasks] == [1, 2] and queue.open_of("ada") == tasks and queue.open_of("bob") == []
    assert (tasks[0].run_config, tasks[0].max_reply_bytes, tasks[0].deadline_s) == ("{}", 2**31 - 1, 10.0)
    assert queue.limit("ada", 1) == MAX_REPLY_BYTES and queue.limit("bob", 1) is None and queue.limit("ada", 3) is None
    assert not queue.changed.is_set()
    assert queue.reply("ada", reply(1, small(b"x"))) is Verdict.ACCEPTED
    assert queue.limit("ada", 1) is None and queue.open_of("ada") == tasks[1:]
    assert queued.ends == [1] and queue.changed.is_set()
    (ended,) = queue.collect(["m1", "m2", "unknown"])
    assert ended.end == reply(1, small(b"x")) and queue.collect(["m1"]) == []


def test_only_the_device_of_an_open_task_may_reply(queued: Queued) -> None:
    queue = queued.queue
    queue.put(instruction("m1"))
    assert queue.reply("bob", reply(1)) is Verdict.LATE
    assert [queue.reply("ada", reply(number)) for number in (0, 2)] == [Verdict.UNKNOWN] * 2
    assert queued.ends == []
    assert [queue.reply("ada", reply(1)) for _ in range(2)] == [Verdict.ACCEPTED] * 2, "a repetition is no fault"
    assert queued.ends == [1]
    queue.collect(["m1"])
    assert queue.reply("ada", reply(1)) is Verdict.LATE


def test_a_reply_without_its_content_gets_the_task_again(queued: Queued) -> None:
    task = queued.queue.put(instruction("m1"))
    content = queued.stored(b"reply")
    queued.blobs.delete(content.id)
    assert queued.queue.reply("ada", reply(1, content)) == task and queued.ends == []
    queued.stored(b"reply")
    assert queued.queue.reply("ada", reply(1, content)) is Verdict.ACCEPTED


def test_a_task_fails_at_its_deadline_to_the_moment(queued: Queued) -> None:
    queued.queue.put(instruction("m1", deadline_s=2.5))
    queued.now_s = 102.4
    queued.queue.expire()
    assert queued.ends == []
    queued.now_s = 102.5
    queued.queue.expire()
    queued.queue.expire()
    (ended,) = queued.queue.collect(["m1"])
    assert ended.end == Failure(code=ErrorCode.REPLY_MESSAGE_UNAVAILABLE, reason="no reply within 2.5 s")
    assert queued.ends == [1] and ended.due_s == 102.5


def test_all_tasks_of_a_lost_device_fail_and_a_late_reply_changes_nothing(queued: Queued) -> None:
    for number, device in ((1, "ada"), (2, "ada"), (3, "bob")):
        queued.queue.put(instruction(f"m{number}", device))
    queued.queue.fail(["ada", "eve"], "gone")
    assert queued.ends == [1, 2] and queued.queue.open_of("ada") == []
    assert queued.queue.reply("ada", reply(1)) is Verdict.LATE
    failure = Failure(code=ErrorCode.NODE_UNAVAILABLE, reason="gone")
    assert [ended.end for ended in queued.queue.collect(["m1", "m2", "m3"])] == [failure, failure]


def test_a_content_goes_with_the_last_task_that_needs_it(queued: Queued) -> None:
    content = queued.stored(b"shared")
    for number, device in ((1, "ada"), (2, "bob")):
        queued.queue.put(instruction(f"m{number}", device, content=content))
    queued.queue.reply("ada", reply(1))
    assert queued.blobs.has(content.id)
    queued.queue.reply("bob", reply(2))
    assert not queued.blobs.has(content.id)


def test_blobs_of_a_collected_task_go_unless_another_reply_or_task_needs_them(queued: Queued) -> None:
    answer, stray, shared = (queued.stored(data) for data in (b"answer", b"stray", b"shared"))
    for number, device in ((1, "ada"), (2, "bob"), (3, "eve")):
        queued.queue.put(instruction(f"m{number}", device, content=shared if device == "eve" else None))
    queued.queue.uploads[1] = {answer.id, stray.id, shared.id}
    for number, device in ((1, "ada"), (2, "bob")):
        queued.queue.reply(device, reply(number, answer))
    (first,) = queued.queue.collect(["m1"])
    queued.queue.forget(first)
    assert not queued.blobs.has(stray.id), "an upload that came to nothing"
    assert queued.blobs.has(answer.id) and queued.blobs.has(shared.id), "bob's reply, and eve's task"
    (second,) = queued.queue.collect(["m2"])
    queued.queue.forget(second)
    assert not queued.blobs.has(answer.id) and queued.queue.uploads == {}
