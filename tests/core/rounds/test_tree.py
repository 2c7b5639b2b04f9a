"""Random trees of edges under random faults: no device counts twice or is forgotten, no round waits in vain."""

from collections.abc import Callable
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.rounds.simulated_tree import Tree

SEEDS = st.integers(0, 2**32)
SHAPES = st.fixed_dictionaries(
    {
        "levels": st.lists(st.integers(1, 3), min_size=1, max_size=6),
        "devices": st.integers(1, 8),
        "edge_deadline_s": st.sampled_from([0.0, 3.0, 900.0]),
        "root_remembers": st.booleans(),
    }
)


def run(seed: int, shape: dict[str, Any], moves: int, *, faults: bool = True, rounds: int = 2) -> Tree:
    """Play rounds of `moves` random events each, and let every one of them end; the tree checks its rules itself."""
    dice = Random(seed)
    tree = Tree(dice, **shape)
    weighted: list[tuple[Callable[[], object], int]] = [(tree.pass_one, 60), (tree.duplicate_one, 3)]
    weighted += [(lambda: tree.work_one(0.1 if faults else 0.0), 25), (tree.pass_a_little_time, 2)]
    if faults:
        weighted += [(tree.break_one, 4), (tree.move_one, 4), (tree.kill_edge, 1), (tree.reconnect_one, 8)]
        weighted += [(tree.kill_device, 1)] if dice.random() < 0.3 else []
    for _ in range(rounds):
        tree.come_together()
        if not tree.root.state.roster:
            break  # every device is dead
        tree.begin_round()
        for act in dice.choices(*zip(*weighted, strict=True), k=moves):
            act()
        tree.end_round()
    return tree


@settings(max_examples=350, deadline=None)
@given(SEEDS, SHAPES, st.integers(0, 500))
def test_faults_neither_double_nor_lose_an_update_nor_block_a_round(
    seed: int, shape: dict[str, Any], moves: int
) -> None:
    run(seed, shape, moves)


@settings(max_examples=40, deadline=None)
@given(SEEDS, SHAPES, st.integers(0, 60))
def test_without_faults_nothing_is_left_anywhere_and_everybody_counts(
    seed: int, shape: dict[str, Any], moves: int
) -> None:
    tree = run(seed, shape, moves, faults=False, rounds=3)
    tree.settle()
    assert all(sorted(set(names)) == sorted(names) for names in tree.root.counted.values())
    assert tree.root.state.void_rounds == 0
    tree.check_empty()


@settings(max_examples=40, deadline=None)
@given(SEEDS, SHAPES, st.integers(0, 200))
def test_a_closed_round_leaves_no_spool_behind_whatever_happened(seed: int, shape: dict[str, Any], moves: int) -> None:
    tree = run(seed, shape, moves, rounds=1)
    tree.settle()
    tree.check_empty()


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.integers(1, 3), st.integers(1, 8), st.booleans())
def test_an_undisturbed_edge_sends_once_a_round(seed: int, depth: int, devices: int, root_remembers: bool) -> None:
    shape = {"levels": list(range(1, depth + 1)), "devices": devices, "edge_deadline_s": 900.0}
    tree = run(seed, {**shape, "root_remembers": root_remembers}, 0, faults=False, rounds=1)
    assert all(edge.state.number % 1000 <= 1 for edge in tree.edges)
    assert len(tree.root.merged) <= depth
