"""Random trees of edges under random faults: nobody counts twice, nobody is forgotten, no round waits for nobody."""

from collections.abc import Callable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.rounds.simulated_tree import Tree

TREES = st.builds(
    dict,
    levels=st.lists(st.integers(1, 3), max_size=4),
    devices=st.integers(1, 6),
    edge_deadline_s=st.sampled_from([0.0, 3.0, 900.0]),
    root_remembers=st.booleans(),
)


def one_round(tree: Tree, dice: Random, actions: list[Callable[[], object]], weights: list[int], moves: int) -> None:
    """Open a round, let things happen, then let it end."""
    tree.moved.clear()
    tree.root.open_round()
    for _ in range(moves):
        dice.choices(actions, weights)[0]()
    tree.settle_round()
    tree.root.close_round()


def run(seed: int, shape: dict, moves: int, faults: bool, rounds: int = 2) -> Tree:
    dice = Random(seed)
    tree = Tree(dice, **shape)
    usual = [
        (tree.pass_one, 60),
        (lambda: tree.work_one(0.1), 25),
        (tree.pass_a_little_time, 2),
        (tree.duplicate_one, 3),
    ]
    bad = [(tree.break_one, 4), (tree.move_one, 4), (tree.kill_edge, 1), (tree.reconnect_one, 8)]
    if dice.random() < 0.3:
        bad.append((tree.kill_device, 1))
    actions, weights = zip(*(usual + bad if faults else usual), strict=True)
    for _ in range(rounds):
        tree.come_together()
        if not tree.root.state.roster:
            break  # everybody is dead
        one_round(tree, dice, list(actions), list(weights), moves)
    return tree


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32), TREES, st.integers(0, 150))
def test_any_tree_counts_everybody_once(seed: int, shape: dict, moves: int) -> None:
    run(seed, shape, moves, faults=True)
