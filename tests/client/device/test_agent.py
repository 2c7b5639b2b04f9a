"""The device's side of a round: done once, kept until the round closes, rolled back where it was not counted."""

import asyncio
import gc
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest

from fedcore.client.device.state import StateFolder
from fedcore.client.training.training_state import load_training_state
from fedcore.core.errors import BlobCorrupt, DataError, ProtocolError, UpdateLate
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.values import (
    AssignmentFailure,
    Progress,
    RoundClosed,
    UpdateSubmission,
    UpdateVerdict,
    Verdict,
    WireAssignment,
)
from fedcore.protos.wire import INLINE_BYTES
from tests.client.conftest import WELCOME, Bench, broken, make_assignment
from tests.tiny_run import PATIENCE_S

MakeBench = Callable[..., Bench]


async def joined(bench: Bench) -> Bench:
    await bench.agent.welcome(WELCOME, bench.stream)  # type: ignore[arg-type]
    return bench


async def push(bench: Bench, *assignments: WireAssignment) -> None:
    for assignment in assignments:
        await bench.agent.message(assignment, bench.stream)  # type: ignore[arg-type]


async def tell(bench: Bench, verdict: Verdict, number: int = 1) -> None:
    word = UpdateVerdict(round=number, verdict=verdict, message="why")
    await bench.agent.message(word, bench.stream)  # type: ignore[arg-type]


async def test_an_assignment_ends_in_one_submission_that_carries_its_update(make_bench: MakeBench) -> None:
    bench = await joined(make_bench())
    assignment = make_assignment()
    await push(bench, assignment)
    await bench.settled()
    (submission,) = bench.stream.of(UpdateSubmission)
    assert submission.update.inline and submission.keep_set == assignment.keep_set.id and submission.round == 1
    assert submission.report.bytes_up == submission.update.size and submission.report.steps == 3
    assert (
        submission.report.bytes_down == assignment.keep_set.size + assignment.head.size + assignment.rank_blocks[0].size
    )
    assert bench.stream.of(Progress) == [Progress(round=1, step=1, steps=3)]
    await bench.agent.close()


async def test_work_pushed_again_while_under_way_is_done_once(make_bench: MakeBench) -> None:
    gate = threading.Event()
    bench = await joined(make_bench(gate=gate))
    await push(bench, make_assignment())
    assert await asyncio.to_thread(bench.trainer.entered.wait, PATIENCE_S)
    await push(bench, make_assignment())
    gate.set()
    await bench.settled()
    (submission,) = bench.stream.of(UpdateSubmission)
    assert len(bench.trainer.runs) == 1
    assert submission.report.repushed, "its phases may have begun under a parent that is gone"
    await bench.agent.close()


async def test_work_pushed_again_after_its_end_sends_the_same_bytes_without_training(make_bench: MakeBench) -> None:
    bench = await joined(make_bench())
    for _ in range(2):
        await push(bench, make_assignment())
        await bench.settled()
    first, second = bench.stream.of(UpdateSubmission)
    assert len(bench.trainer.runs) == 1 and first.update == second.update
    assert (first.report.repushed, second.report.repushed) == (False, True)
    await bench.agent.close()


async def test_a_restarted_device_sends_its_spooled_update_without_training(make_bench: MakeBench) -> None:
    before = await joined(make_bench())
    await push(before, make_assignment())
    await before.settled()
    await before.agent.close()
    after = await joined(make_bench(scale=7.0))
    await push(after, make_assignment())
    await after.settled()
    assert after.trainer.runs == []
    assert after.stream.of(UpdateSubmission)[0].update == before.stream.of(UpdateSubmission)[0].update
    await tell(after, Verdict.ACCEPTED)
    held = after.state.keep_set()
    assert held is not None and held.blob_id == make_assignment().keep_set.id, "what was acknowledged is committed"
    await after.agent.close()


async def test_an_accepted_update_is_committed_and_kept_until_its_round_closes(make_bench: MakeBench) -> None:
    bench = await joined(make_bench())
    await push(bench, make_assignment())
    await bench.settled()
    assert bench.state.keep_set() is None, "nothing is committed before the coordinator's word"
    await tell(bench, Verdict.ACCEPTED)
    assert bench.state.keep_set() == KeepSet.from_bytes(make_assignment().keep_set.inline)
    assert load_training_state(bench.state.training_state).moments["head.bias"].step == 1
    spooled = bench.state.spooled_update()
    assert spooled is not None
    await bench.agent.message(RoundClosed(round=0), bench.stream)  # type: ignore[arg-type]
    assert bench.state.spooled_update() == spooled
    await bench.agent.message(RoundClosed(round=1), bench.stream)  # type: ignore[arg-type]
    assert bench.state.spooled_update() is None and not bench.state.blobs.has(spooled.submission.update.id)
    await bench.agent.close()


@pytest.mark.parametrize("verdict", [Verdict.LATE, Verdict.REJECTED, Verdict.UNKNOWN])
async def test_what_was_not_counted_is_rolled_back_and_dropped(verdict: Verdict, make_bench: MakeBench) -> None:
    bench = await joined(make_bench())
    await push(bench, make_assignment(1))
    await bench.settled()
    await tell(bench, verdict)
    assert bench.state.spooled_update() is None and bench.state.keep_set() is None
    assert f"round 1: update {verdict}: why" in bench.said
    await push(bench, make_assignment(2))
    await bench.settled()
    assert bench.trainer.runs[1][1].moments == {}, "the next round starts from what was committed"
    await bench.agent.close()


async def test_a_word_on_an_earlier_round_leaves_the_newer_update_alone(make_bench: MakeBench) -> None:
    bench = await joined(make_bench())
    await push(bench, make_assignment(2, heads=1))
    await bench.settled()
    for verdict in (Verdict.LATE, Verdict.ACCEPTED):
        await tell(bench, verdict, number=1)
        assert bench.state.spooled_update() is not None and bench.state.keep_set() is None
    await tell(bench, Verdict.ACCEPTED, number=2)
    assert bench.state.keep_set() == KeepSet.from_bytes(make_assignment(2, heads=1).keep_set.inline)
    await bench.agent.close()


async def test_committed_moments_go_into_the_next_round_and_the_next_process(make_bench: MakeBench) -> None:
    bench = await joined(make_bench())
    await push(bench, make_assignment(1))
    await bench.settled()
    await tell(bench, Verdict.ACCEPTED)
    await push(bench, make_assignment(2))
    await bench.settled()
    assert bench.trainer.runs[1][1].moments["head.bias"].step == 1
    await bench.agent.close()
    restarted = await joined(make_bench())
    await push(restarted, make_assignment(3))
    await restarted.settled()
    assert restarted.trainer.runs[0][1].moments["head.bias"].step == 1
    await restarted.agent.close()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (DataError("training diverged at step 2; lower the learning rate"), "training diverged at step 2"),
        (RuntimeError("CUDA error: out of memory"), "RuntimeError: CUDA error: out of memory"),
        (MemoryError(), "MemoryError: "),
        (RuntimeError("x" * 10_000), "RuntimeError: xxx"),
    ],
)
async def test_a_failure_is_reported_and_the_device_lives_on(
    fault: Exception, message: str, make_bench: MakeBench
) -> None:
    bench = await joined(make_bench(fault=fault))
    await push(bench, make_assignment(1))
    await bench.settled()
    (failure,) = bench.stream.of(AssignmentFailure)
    assert len(bench.trainers) == (1 if isinstance(fault, DataError) else 2), "the model may be half pruned"
    assert failure.round == 1 and failure.message.startswith(message) and len(failure.message) <= 500
    assert any("round 1 failed" in words for words in bench.said)
    bench.trainer.fault = None
    await push(bench, make_assignment(2))
    await bench.settled()
    assert [each.round for each in bench.stream.of(UpdateSubmission)] == [2]
    await bench.agent.close()


async def test_a_failure_that_cannot_be_told_does_not_end_the_device(make_bench: MakeBench) -> None:
    bench = await joined(make_bench(fault=DataError("no")))
    bench.stream.fault = broken()
    unhandled: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    await push(bench, make_assignment())
    await bench.settled()
    gc.collect()
    assert bench.stream.sent == [] and unhandled == []
    await bench.agent.close()


async def test_broken_transfers_are_tried_again(make_bench: MakeBench) -> None:
    bench = await joined(make_bench())
    bench.link.faults = [broken(), BlobCorrupt("the bytes have another hash"), broken()]
    await push(bench, make_assignment())
    await bench.settled()
    assert len(bench.stream.of(UpdateSubmission)) == 1 and bench.link.faults == []
    await bench.agent.close()


async def test_a_transfer_that_never_works_leaves_the_work_for_the_reconnect(make_bench: MakeBench) -> None:
    bench = await joined(make_bench())
    bench.link.faults = [broken() for _ in range(5)]
    await push(bench, make_assignment())
    await bench.settled()
    assert bench.stream.sent == [] and any("once the work is pushed again" in words for words in bench.said)
    await push(bench, make_assignment())
    await bench.settled()
    assert len(bench.stream.of(UpdateSubmission)) == 1
    await bench.agent.close()


async def test_a_large_update_is_uploaded_in_the_newest_session(make_bench: MakeBench) -> None:
    bench = await joined(make_bench())
    assignment = make_assignment(rank=300, inline=False)
    for ref, full in zip(
        (assignment.keep_set, assignment.head, *assignment.rank_blocks),
        (lambda made: (made.keep_set, made.head, *made.rank_blocks))(make_assignment(rank=300)),
        strict=True,
    ):
        bench.link.held[ref.id] = full.inline
    await bench.agent.welcome(replace(WELCOME, session="s2"), bench.stream)  # type: ignore[arg-type]
    await push(bench, assignment)
    await bench.settled()
    ((header, data),) = bench.link.uploads
    (submission,) = bench.stream.of(UpdateSubmission)
    assert header.session == "s2" and header.sender == "device" and header.round == 1
    assert submission.update.size == len(data) > INLINE_BYTES and not submission.update.inline
    await bench.agent.close()


async def test_an_update_refused_as_late_is_no_failure(make_bench: MakeBench) -> None:
    bench = await joined(make_bench())
    bench.link.faults = [UpdateLate("device has no open assignment of round 1; drop the update")]
    await push(bench, make_assignment())
    await bench.settled()
    assert bench.stream.of(AssignmentFailure) == [] and any("drop the update" in words for words in bench.said)
    await bench.agent.close()


async def test_a_damaged_handout_is_reported(make_bench: MakeBench) -> None:
    bench = await joined(make_bench())
    bench.link.faults = [ProtocolError("blob is not here")]
    await push(bench, make_assignment())
    await bench.settled()
    assert bench.stream.of(AssignmentFailure)[0].message == "blob is not here"
    await bench.agent.close()


def put_up(bench: Bench, assignment: WireAssignment, whole: WireAssignment) -> None:
    """Have the link serve what `assignment` names; `whole` is the same with its blobs inside."""
    bench.link.held |= {ref.id: ref.inline for ref in whole.refs}
    assert not any(ref.inline for ref in assignment.refs)


@pytest.mark.parametrize("rings", [False, True])
async def test_a_device_holds_one_handout_and_nothing_of_rounds_that_are_over(
    rings: bool, make_bench: MakeBench
) -> None:
    bench = await joined(make_bench())
    for number in (1, 2, 3):
        heads = 1 if number > 1 else 2
        assignment = make_assignment(number, heads=heads, rank=number, inline=False, rings=rings)
        put_up(bench, assignment, make_assignment(number, heads=heads, rank=number, rings=rings))
        await push(bench, assignment)
        await bench.settled()
        await tell(bench, Verdict.ACCEPTED, number)
        await bench.agent.message(RoundClosed(round=number), bench.stream)  # type: ignore[arg-type]
        assert bench.state.blobs.names() == {ref.id for ref in assignment.refs}
        assert bench.state.keep_set() is not None and bench.state.keep_set().blob_id == assignment.keep_set.id  # type: ignore[union-attr]
    await bench.agent.close()
    again = await joined(make_bench())  # the device's next process knows what the last one fetched
    assignment = make_assignment(4, inline=False, rings=rings)
    put_up(again, assignment, make_assignment(4, rings=rings))
    await push(again, assignment)
    await again.settled()
    await again.agent.message(RoundClosed(round=4), again.stream)  # type: ignore[arg-type]
    assert again.state.blobs.names() == {ref.id for ref in assignment.refs}
    await again.agent.close()


@pytest.mark.parametrize("rings", [False, True])
async def test_what_a_power_cut_has_spoilt_is_brought_again(rings: bool, make_bench: MakeBench) -> None:
    bench = await joined(make_bench())
    assignment = make_assignment(inline=False, rings=rings)
    put_up(bench, assignment, make_assignment(rings=rings))
    for ref in assignment.refs:
        bench.state.blobs.put_bytes(bench.link.held[ref.id])
    bench.state.blobs.path(assignment.rank_blocks[0].id).write_bytes(b"spoilt")
    await push(bench, assignment)
    await bench.settled()
    (submission,) = bench.stream.of(UpdateSubmission)
    assert submission.report.bytes_down == sum(ref.size for ref in assignment.refs)
    assert any("fetched again" in words for words in bench.said) and not bench.stream.of(AssignmentFailure)
    await bench.agent.close()


async def test_a_device_over_its_memory_limit_says_so(make_bench: MakeBench) -> None:
    bench = make_bench()
    bench.agent.memory_mb = 1.0
    await joined(bench)
    await push(bench, make_assignment())
    await bench.settled()
    assert any("training held 2 MiB, more than the class's limit of 1" in words for words in bench.said)
    await bench.agent.close()


async def test_an_update_refused_and_then_accepted_is_not_committed(make_bench: MakeBench) -> None:
    bench = await joined(make_bench())
    await push(bench, make_assignment())
    await bench.settled()
    for verdict in (Verdict.REJECTED, Verdict.ACCEPTED):
        await tell(bench, verdict)
    assert bench.state.keep_set() is None and not bench.state.training_state.exists()
    await bench.agent.close()


async def test_a_spooled_update_that_was_spoilt_is_made_again(make_bench: MakeBench) -> None:
    bench = await joined(make_bench())
    await push(bench, make_assignment())
    await bench.settled()
    (first,) = bench.stream.of(UpdateSubmission)
    bench.state.blobs.delete(first.update.id)
    await push(bench, make_assignment())
    await bench.settled()
    first, second = bench.stream.of(UpdateSubmission)
    assert len(bench.trainer.runs) == 2 and second.update == first.update and not second.report.repushed
    await bench.agent.close()


async def test_a_spool_that_cannot_be_deleted_does_not_end_the_device(
    make_bench: MakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = await joined(make_bench())

    def full(_: StateFolder) -> None:
        raise OSError(28, "no space left on device")

    monkeypatch.setattr(StateFolder, "clear_spool", full)
    await push(bench, make_assignment())
    await bench.settled()
    assert "the spooled update cannot be deleted: [Errno 28] no space left on device" in bench.said
    assert len(bench.stream.of(UpdateSubmission)) == 1
    await bench.agent.close()
