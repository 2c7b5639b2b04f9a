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
from tests.tiny_tier import SPEC, TRAINING, answer, assignment, root_sum, small, submitted, with_leaf

WORKS = {name: assignment(score=name == "ada", weight=index + 1) for index, name in enumerate(("ada", "bob", "cyd"))}


def packed(round_sum: RoundSum) -> bytes:
    return b"".join(bytes(chunk) for chunk in round_sum.terms.aggregator.pack(round_sum.total()))


def folded(place: Path, *devices: str, edge: bool = False) -> RoundSum:
    round_sum = root_sum(place, WORKS)
    round_sum.terms = replace(round_sum.terms, unassigned=edge)
    for device in devices:
        round_sum.verify(device, answer(device, WORKS[device]))
        round_sum.fold(device)
    return round_sum


def below(place: Path, *devices: str, **options: Any) -> Any:
    return submitted(place, {device: WORKS[device] for device in devices}, **options)


def test_a_partial_and_an_update_give_the_sum_of_three_updates(tmp_path: Path) -> None:
    expected = packed(folded(tmp_path / "flat", "ada", "bob", "cyd"))
    round_sum = folded(tmp_path / "tree", "bob")
    round_sum.verify_partial("north", below(tmp_path / "edge", "ada", "cyd"))
    round_sum.merge_partial(PartialId(child="north", number=1))
    assert packed(round_sum) == expected and round_sum.folded == {"ada", "bob", "cyd"}
    assert round_sum.updates["ada"].scores is not None and round_sum.updates["cyd"].scores is None
    assert round_sum.updates["cyd"].update is None and round_sum.updates["cyd"].report == device_report()


def test_a_tier_between_changes_no_bit(tmp_path: Path) -> None:
    deep = below(tmp_path / "deep", "ada", "cyd")
    north = below(tmp_path / "north", "bob", parts=[("deep", deep)])
    assert north.counted == ("ada", "bob", "cyd")
    round_sum = root_sum(tmp_path / "root", WORKS)
    round_sum.verify_partial("north", north)
    round_sum.merge_partial(PartialId(child="north", number=1))
    assert packed(round_sum) == packed(folded(tmp_path / "flat", "cyd", "ada", "bob"))
    scores, direct = round_sum.updates["ada"].scores, folded(tmp_path / "other", "ada").updates["ada"].scores
    assert scores is not None and direct is not None
    np.testing.assert_array_equal(scores.channels[0], direct.channels[0])


def test_an_update_is_verified_and_folded_once(tmp_path: Path) -> None:
    round_sum = folded(tmp_path, "bob")
    before = packed(round_sum)
    round_sum.verify("bob", answer("bob", WORKS["bob"], report=device_report(loss_after=float("nan"))))
    round_sum.fold("bob")
    assert packed(round_sum) == before and round_sum.updates["bob"].report == device_report()


def test_what_no_assignment_asks_for_is_not_looked_at(tmp_path: Path) -> None:
    round_sum = root_sum(tmp_path, WORKS)
    round_sum.verify("eve", answer("eve", WORKS["bob"]))
    round_sum.verify("bob", answer("bob", WORKS["bob"], round=2, update=small(b"garbage")))
    round_sum.verify_partial("north", replace(below(tmp_path / "edge", "ada"), round=9))
    assert round_sum.updates == {} and round_sum.partials == {}


def test_a_refused_update_may_come_again(tmp_path: Path) -> None:
    round_sum = root_sum(tmp_path, WORKS)
    with pytest.raises(UpdateRejected, match="update of bob for round 1"):
        round_sum.verify("bob", answer("bob", WORKS["bob"], update=small(b"garbage")))
    round_sum.verify("bob", answer("bob", WORKS["bob"]))
    round_sum.fold("bob")
    assert packed(round_sum) == packed(folded(tmp_path / "flat", "bob"))


def test_what_was_passed_on_can_be_folded_again(tmp_path: Path) -> None:
    round_sum = folded(tmp_path, "ada", "bob", edge=True)
    first = b"".join(bytes(chunk) for chunk in round_sum.terms.aggregator.pack(round_sum.unfold()))
    assert round_sum.folded == set()
    for device in ("bob", "ada"):
        round_sum.fold(device)
    assert packed(round_sum) == first


def test_the_root_lets_go_of_what_it_has_folded(tmp_path: Path) -> None:
    round_sum = folded(tmp_path, "ada", "bob")
    assert [round_sum.updates[device].update for device in ("ada", "bob")] == [None, None]
    round_sum.verify("ada", answer("ada", WORKS["ada"]))  # sent again: it is not looked at
    assert round_sum.updates["ada"].update is None


def test_a_part_passed_on_can_be_merged_again(tmp_path: Path) -> None:
    round_sum, part = root_sum(tmp_path, WORKS), PartialId(child="north", number=1)
    round_sum.verify_partial("north", below(tmp_path / "edge", "ada", "cyd"))
    round_sum.merge_partial(part)
    first = b"".join(bytes(chunk) for chunk in round_sum.terms.aggregator.pack(round_sum.unfold()))
    round_sum.merge_partial(part)
    assert packed(round_sum) == first


def test_a_device_whose_part_went_back_is_verified_here(tmp_path: Path) -> None:
    round_sum = root_sum(tmp_path, WORKS)
    round_sum.verify_partial("north", below(tmp_path / "edge", "bob", "cyd"))
    round_sum.merge_partial(PartialId(child="north", number=1))
    round_sum.unfold()
    round_sum.drop_partial(PartialId(child="north", number=1))
    round_sum.verify("bob", answer("bob", WORKS["bob"]))
    round_sum.fold("bob")
    assert packed(round_sum) == packed(folded(tmp_path / "flat", "bob"))


def test_a_number_stands_for_one_partial(tmp_path: Path) -> None:
    round_sum, submission = root_sum(tmp_path, WORKS), below(tmp_path / "edge", "bob")
    round_sum.verify_partial("north", submission)
    round_sum.verify_partial("north", submission)
    with pytest.raises(UpdateRejected, match="north, round 1: number 1 came with other leaves before"):
        round_sum.verify_partial("north", with_leaf(submission, "bob", time_s=9.0))
    assert list(round_sum.partials) == [PartialId(child="north", number=1)]
    round_sum.verify_partial("south", below(tmp_path / "south", "cyd"))
    assert len(round_sum.partials) == 2


def test_a_dropped_part_leaves_nothing(tmp_path: Path) -> None:
    round_sum, part = root_sum(tmp_path, WORKS), PartialId(child="north", number=1)
    round_sum.verify_partial("north", below(tmp_path / "edge", "bob"))
    round_sum.drop_partial(part)
    round_sum.drop_partial(part)
    assert round_sum.partials == {} and round_sum.total().members.weight == 0


def test_the_spool_goes_with_the_round(tmp_path: Path) -> None:
    round_sum = root_sum(tmp_path / "root", WORKS)
    submission = answer("bob", WORKS["bob"])
    stored = round_sum.terms.blobs.put_bytes(submission.update.inline)
    round_sum.verify("bob", replace(submission, update=replace(submission.update, inline=b"")))
    assert round_sum.spool == {stored} and round_sum.terms.blobs.has(stored)
    round_sum.delete_spool()
    assert not round_sum.terms.blobs.has(stored)


def test_an_update_folded_at_an_edge_is_not_folded_here(tmp_path: Path) -> None:
    round_sum = root_sum(tmp_path, WORKS)
    round_sum.verify_partial("north", below(tmp_path / "edge", "bob"))
    round_sum.merge_partial(PartialId(child="north", number=1))
    round_sum.unfold()
    with pytest.raises(RuntimeError, match="bob, round 1: folded at an edge"):
        round_sum.fold("bob")


PART = replace(TRAINING, trains=TrainedPart(factors=Factors.B))
PARTS = {name: replace(each, training=PART) for name, each in WORKS.items()}


def test_updates_of_a_part_are_half_and_their_sum_is_the_same_in_a_tree(tmp_path: Path) -> None:
    flat = root_sum(tmp_path / "flat", PARTS)
    for device in PARTS:
        flat.verify(device, answer(device, PARTS[device]))
        flat.fold(device)
    edge = submitted(tmp_path / "edge", {device: PARTS[device] for device in ("ada", "cyd")})
    tree = root_sum(tmp_path / "tree", PARTS)
    tree.verify("bob", answer("bob", PARTS["bob"]))
    tree.fold("bob")
    tree.verify_partial("north", edge)
    tree.merge_partial(PartialId(child="north", number=1))
    assert packed(tree) == packed(flat)
    assert upload_bound(flat.terms.assignments["bob"], SPEC) < 0.7 * upload_bound(
        folded(tmp_path).terms.assignments["bob"], SPEC
    )


@pytest.mark.parametrize(("asked", "sent"), [(PARTS, WORKS), (WORKS, PARTS)])
def test_an_update_of_another_part_than_asked_for_is_refused(
    asked: dict[str, WireAssignment], sent: dict[str, WireAssignment], tmp_path: Path
) -> None:
    round_sum = root_sum(tmp_path, asked)
    with pytest.raises(UpdateRejected, match="update of bob for round 1"):
        round_sum.verify("bob", answer("bob", sent["bob"]))
    assert not round_sum.updates
