"""One round's sum: whatever way its updates come, it is the same sum, and nothing is in it twice."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedcore.core.errors import UpdateRejected
from fedcore.core.model.trained_part import Factors, TrainedPart
from fedcore.core.rounds.tier.state import PartialId
from fedcore.protos.values import WireAssignment
from fedcore.server.aggregate.round_sum import RoundSum
from fedcore.server.aggregate.uploads import upload_bound
from tests.tiny_run import device_report
from tests.tiny_tier import SPEC, TRAINING, answer, assignment, root_tally, small, submitted, with_leaf

ASSIGNMENTS = {
    name: assignment(score=name == "ada", weight=index + 1) for index, name in enumerate(("ada", "bob", "cyd"))
}


def packed(tally: RoundSum) -> bytes:
    return b"".join(bytes(chunk) for chunk in tally.aggregator.pack(tally.finished()))


def folded(place: Path, *devices: str, edge: bool = False) -> RoundSum:
    tally = root_tally(place, ASSIGNMENTS)
    tally.strangers = edge
    for device in devices:
        tally.verify(device, answer(device, ASSIGNMENTS[device]))
        tally.fold(device)
    return tally


def below(place: Path, *devices: str, **options: Any) -> Any:
    return submitted(place, {device: ASSIGNMENTS[device] for device in devices}, **options)


def test_a_partial_and_an_update_give_the_sum_of_three_updates(tmp_path: Path) -> None:
    expected = packed(folded(tmp_path / "flat", "ada", "bob", "cyd"))
    tally = folded(tmp_path / "tree", "bob")
    tally.verify_part("north", below(tmp_path / "edge", "ada", "cyd"))
    tally.merge_part(PartialId(child="north", number=1))
    assert packed(tally) == expected and tally.folded == {"ada", "bob", "cyd"}
    assert tally.arrived["ada"].scores is not None and tally.arrived["cyd"].scores is None
    assert tally.arrived["cyd"].update is None and tally.arrived["cyd"].report == device_report()


def test_a_tier_between_changes_no_bit(tmp_path: Path) -> None:
    deep = below(tmp_path / "deep", "ada", "cyd")
    north = below(tmp_path / "north", "bob", parts=[("deep", deep)])
    assert north.counted == ("ada", "bob", "cyd")
    tally = root_tally(tmp_path / "root", ASSIGNMENTS)
    tally.verify_part("north", north)
    tally.merge_part(PartialId(child="north", number=1))
    assert packed(tally) == packed(folded(tmp_path / "flat", "cyd", "ada", "bob"))
    scores, direct = tally.arrived["ada"].scores, folded(tmp_path / "other", "ada").arrived["ada"].scores
    assert scores is not None and direct is not None
    np.testing.assert_array_equal(scores.channels[0], direct.channels[0])


def test_an_update_is_verified_and_folded_once(tmp_path: Path) -> None:
    tally = folded(tmp_path, "bob")
    before = packed(tally)
    tally.verify("bob", answer("bob", ASSIGNMENTS["bob"], report=device_report(loss_after=float("nan"))))
    tally.fold("bob")
    assert packed(tally) == before and tally.arrived["bob"].report == device_report()


def test_what_no_assignment_asks_for_is_not_looked_at(tmp_path: Path) -> None:
    tally = root_tally(tmp_path, ASSIGNMENTS)
    tally.verify("eve", answer("eve", ASSIGNMENTS["bob"]))
    tally.verify("bob", answer("bob", ASSIGNMENTS["bob"], round=2, update=small(b"garbage")))
    tally.verify_part("north", replace(below(tmp_path / "edge", "ada"), round=9))
    assert tally.arrived == {} and tally.parts == {}


def test_a_refused_update_may_come_again(tmp_path: Path) -> None:
    tally = root_tally(tmp_path, ASSIGNMENTS)
    with pytest.raises(UpdateRejected, match="update of bob for round 1"):
        tally.verify("bob", answer("bob", ASSIGNMENTS["bob"], update=small(b"garbage")))
    tally.verify("bob", answer("bob", ASSIGNMENTS["bob"]))
    tally.fold("bob")
    assert packed(tally) == packed(folded(tmp_path / "flat", "bob"))


def test_what_was_passed_on_can_be_folded_again(tmp_path: Path) -> None:
    tally = folded(tmp_path, "ada", "bob", edge=True)
    first = b"".join(bytes(chunk) for chunk in tally.aggregator.pack(tally.unfold()))
    assert tally.folded == set()
    for device in ("bob", "ada"):
        tally.fold(device)
    assert packed(tally) == first


def test_the_root_lets_go_of_what_it_has_folded(tmp_path: Path) -> None:
    tally = folded(tmp_path, "ada", "bob")
    assert [tally.arrived[device].update for device in ("ada", "bob")] == [None, None]
    tally.verify("ada", answer("ada", ASSIGNMENTS["ada"]))  # sent again: it is not looked at
    assert tally.arrived["ada"].update is None


def test_a_part_passed_on_can_be_merged_again(tmp_path: Path) -> None:
    tally, part = root_tally(tmp_path, ASSIGNMENTS), PartialId(child="north", number=1)
    tally.verify_part("north", below(tmp_path / "edge", "ada", "cyd"))
    tally.merge_part(part)
    first = b"".join(bytes(chunk) for chunk in tally.aggregator.pack(tally.unfold()))
    tally.merge_part(part)
    assert packed(tally) == first


def test_a_device_whose_part_went_back_is_verified_here(tmp_path: Path) -> None:
    tally = root_tally(tmp_path, ASSIGNMENTS)
    tally.verify_part("north", below(tmp_path / "edge", "bob", "cyd"))
    tally.merge_part(PartialId(child="north", number=1))
    tally.unfold()
    tally.drop_part(PartialId(child="north", number=1))
    tally.verify("bob", answer("bob", ASSIGNMENTS["bob"]))
    tally.fold("bob")
    assert packed(tally) == packed(folded(tmp_path / "flat", "bob"))


def test_a_number_stands_for_one_partial(tmp_path: Path) -> None:
    tally, submission = root_tally(tmp_path, ASSIGNMENTS), below(tmp_path / "edge", "bob")
    tally.verify_part("north", submission)
    tally.verify_part("north", submission)
    with pytest.raises(UpdateRejected, match="north, round 1: number 1 came with other leaves before"):
        tally.verify_part("north", with_leaf(submission, "bob", time_s=9.0))
    assert list(tally.parts) == [PartialId(child="north", number=1)]
    tally.verify_part("south", below(tmp_path / "south", "cyd"))
    assert len(tally.parts) == 2


def test_a_dropped_part_leaves_nothing(tmp_path: Path) -> None:
    tally, part = root_tally(tmp_path, ASSIGNMENTS), PartialId(child="north", number=1)
    tally.verify_part("north", below(tmp_path / "edge", "bob"))
    tally.drop_part(part)
    tally.drop_part(part)
    assert tally.parts == {} and tally.finished().members.weight == 0


def test_the_spool_goes_with_the_round(tmp_path: Path) -> None:
    tally = root_tally(tmp_path / "root", ASSIGNMENTS)
    submission = answer("bob", ASSIGNMENTS["bob"])
    stored = tally.blobs.put_bytes(submission.update.inline)
    tally.verify("bob", replace(submission, update=replace(submission.update, inline=b"")))
    assert tally.spool == {stored} and tally.blobs.has(stored)
    tally.delete_spool()
    assert not tally.blobs.has(stored)


def test_an_update_folded_at_an_edge_is_not_folded_here(tmp_path: Path) -> None:
    tally = root_tally(tmp_path, ASSIGNMENTS)
    tally.verify_part("north", below(tmp_path / "edge", "bob"))
    tally.merge_part(PartialId(child="north", number=1))
    tally.unfold()
    with pytest.raises(RuntimeError, match="bob, round 1: folded at an edge"):
        tally.fold("bob")


PART = replace(TRAINING, trains=TrainedPart(factors=Factors.B))
PARTS = {name: replace(each, training=PART) for name, each in ASSIGNMENTS.items()}


def test_updates_of_a_part_are_half_and_their_sum_is_the_same_in_a_tree(tmp_path: Path) -> None:
    flat = root_tally(tmp_path / "flat", PARTS)
    for device in PARTS:
        flat.verify(device, answer(device, PARTS[device]))
        flat.fold(device)
    edge = submitted(tmp_path / "edge", {device: PARTS[device] for device in ("ada", "cyd")})
    tree = root_tally(tmp_path / "tree", PARTS)
    tree.verify("bob", answer("bob", PARTS["bob"]))
    tree.fold("bob")
    tree.verify_part("north", edge)
    tree.merge_part(PartialId(child="north", number=1))
    assert packed(tree) == packed(flat)
    assert upload_bound(flat.assignments["bob"], SPEC) < 0.7 * upload_bound(folded(tmp_path).assignments["bob"], SPEC)


@pytest.mark.parametrize(("asked", "sent"), [(PARTS, ASSIGNMENTS), (ASSIGNMENTS, PARTS)])
def test_an_update_of_another_part_than_asked_for_is_refused(
    asked: dict[str, WireAssignment], sent: dict[str, WireAssignment], tmp_path: Path
) -> None:
    tally = root_tally(tmp_path, asked)
    with pytest.raises(UpdateRejected, match="update of bob for round 1"):
        tally.verify("bob", answer("bob", sent["bob"]))
    assert not tally.arrived
