from hypothesis import given
from hypothesis import strategies as st

from fedcore.local_fleet.tiers import parents, tier_names

TIERS = st.lists(st.integers(1, 5), max_size=4)


def test_edges_are_named_by_tier_and_number() -> None:
    assert tier_names([]) == []
    assert tier_names([2, 3]) == [["edge-1-0", "edge-1-1"], ["edge-2-0", "edge-2-1", "edge-2-2"]]


def test_without_edges_everybody_turns_to_the_coordinator() -> None:
    assert [parents([], 1, device) for device in range(3)] == [("coordinator",)] * 3


def test_devices_are_dealt_out_and_turn_to_the_siblings_of_their_edge() -> None:
    assert parents([2], 2, 0) == parents([2], 2, 2) == ("edge-1-0", "edge-1-1", "coordinator")
    assert parents([2], 2, 1) == ("edge-1-1", "edge-1-0", "coordinator")


def test_a_device_below_two_tiers_turns_to_the_upper_one_before_the_coordinator() -> None:
    assert parents([2, 3], 3, 4) == ("edge-2-1", "edge-2-2", "edge-2-0", "edge-1-1", "edge-1-0", "coordinator")


def test_an_edge_turns_to_its_parent_and_to_the_siblings_of_that() -> None:
    assert parents([2, 4], 2, 3) == ("edge-1-1", "edge-1-0", "coordinator")
    assert parents([2, 4], 1, 1) == ("coordinator",)


@given(TIERS, st.integers(0, 40))
def test_everybody_above_is_there_once_the_nearest_tier_first(edges: list[int], device: int) -> None:
    found = parents(edges, len(edges) + 1, device)
    assert found[-1] == "coordinator"
    assert sorted(found[:-1]) == sorted(name for names in tier_names(edges) for name in names)
    tiers = [int(name.split("-")[1]) for name in found[:-1]]
    assert tiers == sorted(tiers, reverse=True)


@given(TIERS.filter(bool), st.integers(1, 6))
def test_a_tier_is_filled_evenly(edges: list[int], each: int) -> None:
    first = [parents(edges, len(edges) + 1, device)[0] for device in range(each * edges[-1])]
    assert {first.count(name) for name in tier_names(edges)[-1]} == {each}


@given(TIERS, st.integers(0, 9))
def test_what_comes_after_the_own_edge_is_where_that_edge_reports(edges: list[int], device: int) -> None:
    found = parents(edges, len(edges) + 1, device)
    if edges:
        own = int(found[0].rpartition("-")[2])
        assert found[edges[-1] :] == parents(edges, len(edges), own)
