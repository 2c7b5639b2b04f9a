from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.model.geometry import Counts
from fedcore.core.pruning.counts import keep_counts
from fedcore.strategies.policy.cohort import CohortMember
from fedcore.strategies.policy.device_table import DeviceTable
from fedcore.strategies.policy.feasible import schedule_of
from fedcore.strategies.policy.state import PolicyState


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(1, 64), st.integers(1, 12), st.integers(0, 3))
def test_whatever_is_committed_is_kept_from_growing_and_from_overshooting(build, roster, heads, channels, t, device):
    strategy = build()
    profile = roster[device]
    state = PolicyState(orders={}, committed=DeviceTable(Counts, {profile.name: [heads, channels]}))
    chooser = strategy.chooser(state, t)
    choice = chooser.choose(chooser.offer(CohortMember(profile=profile, weight=1, score=False)))
    geometry, target = strategy.spec.geometry, strategy.config.target_sparsity(profile.device_class)
    least = keep_counts(geometry, target)
    assert choice.counts[0] <= heads
    assert choice.counts[1] <= channels
    assert choice.counts[0] >= min(heads, least[0])  # no device is cut beyond the class's target
    assert choice.counts[1] >= min(channels, least[1])
    assert choice.realised.sparsity == geometry.sparsity(choice.counts)


def test_a_class_without_a_table_has_the_strategys_target(config):
    assert schedule_of(config, "unknown").target == 0.5
    assert schedule_of(config, "tx2").target == 0.7
    assert schedule_of(config, "tx2").last_cut == 10
