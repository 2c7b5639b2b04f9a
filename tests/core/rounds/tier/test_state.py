"""An edge's state: which devices it holds, and the words of stages and decisions."""

import pytest

from fedcore.core.rounds.tier.state import Decision, PartialId, RelayedDevice, Stage, TierState


@pytest.mark.parametrize(("stage", "held"), [(stage, stage in (Stage.FOLDED, Stage.SENT)) for stage in Stage])
def test_an_edge_holds_updates_without_an_answer(stage: Stage, held: bool) -> None:
    state = TierState(round=1, devices={"ada": RelayedDevice(stage=stage)})
    assert state.holds("ada") is held and not state.holds("bob")


def test_partials_are_ordered_by_child_and_number() -> None:
    parts = [PartialId(child="b", number=1), PartialId(child="a", number=2), PartialId(child="a", number=1)]
    assert [(part.child, part.number) for part in sorted(parts)] == [("a", 1), ("a", 2), ("b", 1)]


def test_a_new_edge_knows_nothing() -> None:
    state = TierState()
    assert (state.round, state.number, state.over) == (0, 0, False)
    assert not (state.devices or state.parts or state.answers or state.claims or state.submissions)


def test_decisions_are_written_by_their_word() -> None:
    assert [str(decision) for decision in Decision] == ["accepted", "late", "rejected", "unknown", "overlap"]
