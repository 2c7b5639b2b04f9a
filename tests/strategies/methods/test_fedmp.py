from dataclasses import replace

import numpy as np
import pytest

from fedcore.core.aggregation.factor_mean import FactorMean
from fedcore.core.bandit.s_ucb import SUcb
from fedcore.core.model.adapter import restrict
from fedcore.strategies.methods.fedmp import REWARD_WEIGHTS
from tests.core.aggregation.cohort import fold_all, make_cohort, make_spec, trained_adapter


def test_sparsity_alone_is_chosen_and_every_device_learns_for_itself(build, roster, play):
    strategy = build(name="fedmp", local_steps_choices=(5, 10), pace="filter", share_posterior=True)
    assert strategy.bandit == SUcb(ranks=(8,), discount=0.98, exploration=0.1)
    state, plans, events = play(strategy, roster, 12)
    assert {(each.arm.rank, each.local_steps) for plan, _ in plans for each in plan.assignments} == {(8, 10)}
    assert set(state["bandits"]) <= {each.name for each in roster}
    arms = {event["arm"]["sparsity"] for event in events if event["event"] == "choice" and event["round"] == 5}
    assert len(arms) == len(roster)


def test_the_reward_is_the_bounded_form(build, roster, play):
    _, _, events = play(build(name="fedmp", reward_weights=(1.0, 1.0, 1.0, 1.0)), roster, 4)
    rewarded = [each for each in events if each["event"] == "reward" and each["parts"] is not None]
    for each in rewarded:
        parts = each["parts"]
        gained = REWARD_WEIGHTS[0] * parts["loss_rank"] - REWARD_WEIGHTS[3] * parts["lateness"]
        assert each["reward"] == pytest.approx(max(0.0, gained))


@pytest.mark.parametrize("family", ["bert", "gqa"])
def test_zero_increments_recover_as_residuals_do(family):
    """mean_k(residual_k + zero-expanded pruned'_k), element by element, is what the aggregator makes."""
    rng, spec = np.random.default_rng(3), make_spec(family)
    adapter = trained_adapter(spec, rng)
    updates = [replace(each, weight=7) for each in make_cohort(spec, rng, ranks=(8, 8, 8))]
    aggregator = FactorMean(server_lr=1.0)
    after, _ = aggregator.finish(fold_all(aggregator, spec, updates), adapter)
    places = {name: np.arange(value.size, dtype=np.float32).reshape(value.shape) for name, value in adapter.items()}
    for name, value in adapter.items():
        returned = np.zeros((len(updates), value.size))
        for row, update in enumerate(updates):
            pruned = restrict(spec, adapter, rank=update.rank, keep_set=update.keep_set)[name].ravel()
            held = restrict(spec, places, rank=update.rank, keep_set=update.keep_set)[name].ravel().astype(int)
            residual = value.ravel().astype(np.float64)
            residual[held] -= pruned
            expanded = np.zeros(value.size)
            expanded[held] = pruned.astype(np.float64) + update.tensors[name].ravel()
            returned[row] = residual + expanded
        assert after[name].ravel() == pytest.approx(returned.mean(axis=0), abs=1e-6)
