import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scale.fleet import (
    beats_per_s,
    edge_load,
    edges_needed,
    gb_per_day,
    largest,
    members_per_edge,
    partial_bytes,
    payload,
    round_load,
)
from tests.benchmarks.scale.known import COSTS

# MiniLM, rank 8: six layers of four (384 + 384) and two (384 + 1536) modules, and a head of 2 x 384 + 2
VALUES = 6 * 8 * (4 * (384 + 384) + 2 * (384 + 1536)) + 2 * 384 + 2


def test_payload_is_the_adapter_of_rank_8():
    found = payload(COSTS)
    assert found.down == 4 * VALUES
    assert found.up == 2 * VALUES
    assert found.scores == 4 * 6 * (12 + 1536)


def test_a_partial_hardly_grows_with_its_members():
    assert partial_bytes(1_000) - partial_bytes(1) < 1_000 * 128
    assert partial_bytes(1) > 8 * VALUES


def test_three_signs_of_life_in_thirty_seconds():
    assert beats_per_s(1_000) == 100


def test_an_edge_is_full_at_the_first_of_its_limits():
    # half a core at 1 ms each and 0.1 a second: 5,000 devices; memory would do for 19,000, joins for 300,000
    assert members_per_edge(COSTS) == 5_000
    load = edge_load(COSTS, 5_000)
    assert load.beats_core_share == pytest.approx(0.5)
    assert load.seat_s == pytest.approx(5.0)
    assert load.memory_mb == pytest.approx(600.0)
    assert edges_needed(COSTS, 1_000_000) == 200
    assert edges_needed(COSTS, 5_001) == 2


def test_a_round_is_spread_over_the_edges():
    load, moved = round_load(COSTS, 1_000_000, 10_000), payload(COSTS)
    assert load.edges == 200
    assert load.edge_mb == pytest.approx(50 * moved.both_mb)
    assert load.edge_cpu_s == pytest.approx(50 * (1e-3 + 1e-2 * moved.both_mb))
    assert load.root_up_mb == pytest.approx(200 * partial_bytes(50) / 1e6)
    assert load.root_scores_mb == pytest.approx(10_000 * moved.scores / 1e6)
    assert load.root_turn_s == pytest.approx(100.0 + 1_000.0)
    assert load.member_round_h == pytest.approx(100 * 120 / 3600)


def test_files_grow_with_client_rounds():
    # a round every two minutes is 720 a day
    assert gb_per_day(COSTS, 1_000) == pytest.approx({"events.jsonl": 0.36, "rounds.csv": 0.072, "ledger.sqlite": 0.72})


@given(st.integers(0, 10**9))
def test_largest_finds_the_border(border: int):
    assert largest(lambda count: count <= border) == border
