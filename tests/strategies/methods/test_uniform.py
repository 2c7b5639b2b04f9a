from dataclasses import replace

from fedcore.core.model.geometry import Counts
from fedcore.core.pruning.counts import keep_counts

DENSE = Counts(8, 64)


def test_everybody_is_cut_once_to_the_same_size_and_keeps_the_largest_rank(build, roster, play, geometry, fleet):
    strategy = build(name="uniform", target_sparsity=0.4)
    state, plans, events = play(strategy, roster, 12, fleet(failures=False))
    counts = [{each.keep_set.counts for each in plan.assignments} for plan, _ in plans]
    assert counts == [{DENSE}] * 2 + [{keep_counts(geometry, 0.4)}] * 10  # warmup_rounds is 2
    assert {each.arm.rank for plan, _ in plans for each in plan.assignments} == {8}
    assert {event["arm"]["sparsity"] for event in events if event["event"] == "choice"} == {0.0, 0.4}
    assert len({strategy.export_keep_set(state, name) for name in ("agx", "nx", "tx2")}) == 1


def test_importance_is_asked_for_in_the_warmup_alone(build, roster, play):
    _, plans, _ = play(build(name="uniform"), roster, 5)
    assert [{each.score for each in plan.assignments} for plan, _ in plans] == [{True}] * 2 + [{False}] * 3


def test_memory_comes_before_the_rule(build, roster):
    strategy = build(name="uniform")
    limit = strategy.cost.memory_mb(keep_counts(strategy.spec.geometry, 0.2), 8)
    small = replace(roster[0], memory_mb=limit)
    _, plan = strategy.plan(strategy.start(), (small, roster[1]), 1)
    cut, dense = plan.assignments
    assert dense.keep_set.counts == DENSE
    assert strategy.cost.memory_mb(cut.keep_set.counts, cut.arm.rank) <= limit
