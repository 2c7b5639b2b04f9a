from dataclasses import fields, replace

import pytest
from hypothesis import given, settings

from fedcore.core.errors import ConfigError, ProtocolError
from fedcore.core.model.trained_part import EVERYTHING
from fedcore.protos.convert.round import (
    assignment_from_pb,
    assignment_key,
    assignment_to_pb,
    submission_from_bytes,
    submission_to_bytes,
    verdict_from_pb,
    verdict_to_pb,
)
from fedcore.protos.v1 import round_pb2 as pb
from fedcore.protos.values import BlobRef, UpdateSubmission, UpdateVerdict, Verdict, WireAssignment
from tests.protos.wire_values import ASSIGNMENTS, SUBMISSIONS


@given(SUBMISSIONS)
@settings(max_examples=40)
def test_a_spooled_update_is_read_back(value: UpdateSubmission) -> None:
    assert submission_from_bytes(submission_to_bytes(value)) == value


@pytest.mark.parametrize("data", [b"\xff", b"\x0a\xff", b"not a message"])
def test_a_spool_of_other_bytes_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a spooled update"):
        submission_from_bytes(data)


@given(ASSIGNMENTS, ASSIGNMENTS)
@settings(max_examples=40)
def test_equal_assignments_have_an_equal_key_and_others_another(one: WireAssignment, two: WireAssignment) -> None:
    assert assignment_key(one) == assignment_key(replace(one))
    assert (assignment_key(one) == assignment_key(two)) == (
        assignment_to_pb(_bare(one)) == assignment_to_pb(_bare(two))
    )


@given(ASSIGNMENTS)
@settings(max_examples=20)
def test_how_blobs_are_brought_and_the_time_left_leave_the_key_alone(assignment: WireAssignment) -> None:
    assert assignment_key(assignment) == assignment_key(_bare(assignment))


def _bare(assignment: WireAssignment) -> WireAssignment:
    shift, inside = assignment.base_shift, assignment.inside
    return replace(
        assignment,
        deadline_s=0.0,
        counted_round=0,
        keep_set=_plain(assignment.keep_set),
        head=_plain(assignment.head),
        rank_blocks=tuple(map(_plain, assignment.rank_blocks)),
        rings=tuple(map(_plain, assignment.rings)),
        inside=None if inside is None else _plain(inside),
        base_shift=None if shift is None else replace(shift, steps=()),
    )


def _plain(ref: BlobRef) -> BlobRef:
    return replace(ref, inline=b"", delta_id="", delta_base="", delta_size=0)


@given(ASSIGNMENTS)
@settings(max_examples=20)
def test_the_key_covers_every_field_of_an_assignment(assignment: WireAssignment) -> None:
    other = replace(assignment, round=assignment.round ^ 1, seed=assignment.seed ^ 1, basis=assignment.basis + "x")
    for field in fields(WireAssignment):
        if getattr(other, field.name) != getattr(assignment, field.name):
            assert assignment_key(replace(assignment, **{field.name: getattr(other, field.name)})) != assignment_key(
                assignment
            )


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (pb.Assignment(sparsity=1.2, rank=4), r"sparsity must be in \[0, 1\), got 1.2"),
        (pb.Assignment(sparsity=-0.1, rank=4), "sparsity must be in"),
        (pb.Assignment(sparsity=float("nan"), rank=4), "sparsity must be in"),
        (pb.Assignment(sparsity=0.5, rank=0), "rank must be at least 1, got 0"),
        (
            pb.Assignment(rank=1, training=pb.TrainingSpec(distillation=pb.Distillation(weight=2.0))),
            r"expected weight in \(0, 1\]",
        ),
    ],
)
def test_an_arm_out_of_range_is_refused(message: pb.Assignment, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        assignment_from_pb(message)


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_has_a_number_of_its_own(verdict: Verdict) -> None:
    message = verdict_to_pb(UpdateVerdict(round=2, verdict=verdict, message="why"))
    assert pb.Verdict.Name(message.verdict) == f"VERDICT_{verdict.upper()}"
    assert verdict_from_pb(message).verdict is verdict


@pytest.mark.parametrize("number", [pb.VERDICT_UNSPECIFIED, 17])
def test_an_unknown_verdict_is_refused_with_its_round(number: int) -> None:
    with pytest.raises(ProtocolError, match=f"round 2: unknown verdict {number}; update the client"):
        verdict_from_pb(pb.UpdateVerdict(round=2, verdict=number))  # type: ignore[arg-type]


@given(ASSIGNMENTS)
@settings(max_examples=10)
def test_training_everything_adds_nothing_to_the_wire(value: WireAssignment) -> None:
    bare = assignment_to_pb(replace(value, training=replace(value.training, trains=EVERYTHING, distillation=None)))
    assert not {"trained_factors", "first_trained_layer", "distillation"} & {
        each.name for each, _ in bare.training.ListFields()
    }


def test_unknown_factors_are_refused() -> None:
    message = pb.Assignment(round=4, rank=1, training=pb.TrainingSpec(trained_factors=9))  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="round 4: unknown trained factors 9; update the client"):
        assignment_from_pb(message)
