"""An overlay is a dict that never changes: every version stays what it was."""

from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.rounds.overlay import Overlay

CHANGES = st.lists(st.dictionaries(st.integers(0, 30).map(str), st.integers(), max_size=4), max_size=60)


@given(CHANGES)
def test_every_version_equals_the_dict_of_its_changes(changes: list[dict[str, int]]) -> None:
    overlay: Overlay[int] = Overlay()
    plain: dict[str, int] = {}
    versions = [(overlay, plain)]
    for each in changes:
        if len(each) == 1:
            ((key, value),) = each.items()
            overlay = overlay.with_entry(key, value)
        else:
            overlay = overlay.with_entries(each)
        plain = {**plain, **each}
        versions.append((overlay, plain))
    for held, expected in versions:
        assert held == expected and len(held) == len(expected)
        assert list(held) == list(held.keys()) == list(expected), "in the order of a dict"
        assert list(held.items()) == list(expected.items()) and list(held.values()) == list(expected.values())
        for key in map(str, range(32)):
            assert held.get(key) == expected.get(key) and held.get(key, -1) == expected.get(key, -1)
            assert (key in held) == (key in expected)
            if key in expected:
                assert held[key] == expected[key]


def test_it_copies_what_it_is_made_of() -> None:
    entries = {"a": 1}
    overlay = Overlay(entries)
    entries["a"] = 2
    assert overlay == {"a": 1} and repr(overlay) == "Overlay({'a': 1})"


def test_a_change_of_one_entry_among_many_copies_few() -> None:
    overlay = Overlay({str(number): number for number in range(10_000)})
    lower = overlay._lower
    for number in range(100):
        overlay = overlay.with_entry(str(number), -number)
        assert overlay._lower is lower and len(overlay._upper) == number + 1
    assert overlay.with_entry("x", 1)._upper == {}
