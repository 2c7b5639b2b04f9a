from dataclasses import fields

from hypothesis import given, settings

from fedcore.core.contract.assignment import Assignment
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.convert.assignment import AssignmentBlobs, from_wire, to_wire
from fedcore.protos.values import WireAssignment
from tests.protos.wire_values import ASSIGNMENTS

KEPT = KeepSet(heads=((0, 1),), channels=((0, 2, 4),))


def blobs_of(value: WireAssignment) -> AssignmentBlobs:
    return AssignmentBlobs(
        keep_set=value.keep_set,
        rings=value.rings,
        inside=value.inside,
        rank_blocks=value.rank_blocks,
        head=value.head,
        base_shift=value.base_shift,
        max_upload_bytes=value.max_upload_bytes,
    )


@given(ASSIGNMENTS)
@settings(max_examples=40)
def test_an_assignment_comes_back_from_the_wire(value: WireAssignment) -> None:
    decided = from_wire(value, device="ada", keep_set=KEPT)
    again = to_wire(
        decided,
        blobs_of(value),
        basis=value.basis,
        label_counts=value.label_counts,
        counted_round=value.counted_round,
    )
    assert again == value
    assert from_wire(again, device="ada", keep_set=KEPT) == decided


@given(ASSIGNMENTS)
@settings(max_examples=20)
def test_every_field_of_an_assignment_is_the_wires_but_the_device_and_what_it_keeps(value: WireAssignment) -> None:
    decided = from_wire(value, device="ada", keep_set=KEPT)
    names = {field.name for field in fields(Assignment)} - {"device", "keep_set"}
    assert {name: getattr(decided, name) for name in names} == {name: getattr(value, name) for name in names}
    assert (decided.device, decided.keep_set) == ("ada", KEPT)
