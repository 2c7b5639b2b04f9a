from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.aggregation.sums.members import Members
from fedcore.core.errors import UpdateRejected


def member(device, weight=1, round_=1):
    return SimpleNamespace(device=device, round=round_, key=(device, round_), weight=weight)


def test_counts_keys_and_weight():
    members = Members().with_update(member("a", 3)).with_update(member("b", 4))
    assert members == Members(keys=frozenset({("a", 1), ("b", 1)}), weight=7)


def test_a_key_counts_once():
    with pytest.raises(UpdateRejected, match="update of a for round 1 is already folded"):
        Members().with_update(member("a")).with_update(member("a", 5))


def test_the_last_unit_of_weight_fits():
    full = Members().with_update(member("a", 2**24 - 1)).with_update(member("b", 1))
    with pytest.raises(UpdateRejected, match="at most 16777216, got 16777217"):
        full.with_update(member("c", 1))


@given(st.sets(st.integers(0, 20)), st.sets(st.integers(0, 20)))
def test_joining_is_union_or_refusal(left, right):
    sides = []
    for devices in (left, right):
        members = Members()
        for each in devices:
            members = members.with_update(member(f"d{each}"))
        sides.append(members)
    if left & right:
        with pytest.raises(UpdateRejected, match="overlap"):
            sides[0].with_members(sides[1])
    else:
        joined = sides[0].with_members(sides[1])
        assert joined == sides[1].with_members(sides[0])
        assert joined.weight == len(left | right)
