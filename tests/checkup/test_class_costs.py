"""What a round costs each class: the figures of the cost model, and the bounds that the policy applies."""

import math

import pytest

from fedcore.checkup.class_costs import ClassCost, RunCost, class_costs, run_cost
from fedcore.core.config.toml import parse_config
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.errors import JoinRefused
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.pruning.counts import keep_counts
from fedcore.strategies.policy.policy import Policy
from fedcore.strategies.table import make_strategy
from tests.tiny_run import WIDE

CONFIG = """
[run]
rounds = 6
[model]
max_length = 8
[strategy]
name = "fedspine"
target_sparsity = 0.5
ranks = [2, 4, 8]
warmup_rounds = 2
recovery_rounds = 1
[training]
local_steps = 10
[[fleet.class]]
name = "agx"
count = 3
uplink_mbps = 8
downlink_mbps = 80
[[fleet.class]]
name = "tx2"
count = 2
slowdown = 4.0
"""


def policy_of(*overrides: str, config: str = CONFIG) -> Policy:
    made = make_strategy(parse_config(config, overrides), geometry_from_config(WIDE), [("head.weight", (2, 128))])
    assert isinstance(made, Policy)
    return made


def limited(memory_mb: float, *overrides: str) -> Policy:
    return policy_of(*overrides, config=CONFIG + f"memory_mb = {memory_mb}\n")


def costs(policy: Policy, **rows: int) -> tuple[ClassCost, ...]:
    return class_costs(policy, rows)


def whole_cost(policy: Policy, **rows: int) -> RunCost:
    return run_cost(policy, rows)


def admits(policy: Policy, memory_mb: float) -> bool:
    try:
        policy.admit(DeviceProfile(name="tx2-0", device_class="tx2", num_examples=1, memory_mb=memory_mb))
    except JoinRefused:
        return False
    return True


def test_memory_is_that_of_the_cost_model_by_sparsity_and_rank() -> None:
    policy = policy_of("strategy.target_sparsity=0.4")
    agx, tx2 = costs(policy)
    assert (agx.name, agx.count, agx.ranks, agx.target) == ("agx", 3, (2, 4, 8), 0.4)
    assert [sparsity for sparsity, _ in agx.needs_mb] == [0.0, 0.2, 0.4]
    for sparsity, needs in agx.needs_mb:
        counts = keep_counts(policy.spec.geometry, sparsity)
        assert needs == tuple(policy.cost.memory_mb(counts, rank, policy.part.least) for rank in (2, 4, 8))
    assert agx.needs_mb == tx2.needs_mb and agx.joins and tx2.joins


def test_a_class_that_is_not_pruned_has_one_sparsity() -> None:
    agx, _ = costs(policy_of("strategy.target_sparsity=0.0"))
    assert [sparsity for sparsity, _ in agx.needs_mb] == [0.0]


@pytest.mark.parametrize("target", [0.0, 0.3, 0.7])
def test_the_least_memory_is_the_least_that_the_run_admits(target: float) -> None:
    policy = policy_of(f"strategy.target_sparsity={target}")
    least = costs(policy)[1].joins_mb
    assert admits(policy, least) and not admits(policy, least - 1)


def test_more_memory_starts_uncut_and_more_still_gives_every_arm() -> None:
    # The larger batch parts the limits: there is a whole MiB between any two of them.
    batch = "training.batch_size=256"
    kind = costs(policy_of(batch))[1]
    assert kind.joins_mb < kind.starts_mb < kind.all_mb
    cut, uncut, free = (costs(limited(limit, batch))[1] for limit in (kind.joins_mb, kind.starts_mb, kind.all_mb))
    assert cut.joins and cut.first.sparsity > 0 and cut.first.rank == 2
    assert uncut.first.sparsity == 0 and uncut.first.rank < 8
    assert free.first.sparsity == 0 and free.first.rank == 8
    assert not costs(limited(kind.joins_mb - 1, batch))[1].joins


def test_the_costliest_arm_is_uncut_at_first_and_at_the_target_in_the_end() -> None:
    policy = policy_of()
    agx, tx2 = costs(policy)
    assert (tx2.first.sparsity, tx2.first.rank) == (0.0, 8) and tx2.last.sparsity == 0.5
    profile = DeviceProfile(name="agx-0", device_class="agx", num_examples=1, uplink_mbps=8, downlink_mbps=80)
    counts = keep_counts(policy.spec.geometry, 0.0)
    assert agx.first.seconds == pytest.approx(policy.cost.seconds(profile, counts, 8))
    demand = policy.cost.demand("agx", counts, 8, 1)
    assert (agx.first.down_bytes, agx.first.up_bytes) == (demand.down_bytes, demand.up_bytes)
    assert tx2.last.up_bytes < tx2.first.up_bytes and tx2.last.seconds < tx2.first.seconds


def test_the_slowest_device_of_a_class_counts() -> None:
    _, tx2 = costs(policy_of(config=CONFIG + "power_modes = [1.0, 3.0]\nuplink_range_mbps = [1, 100]\n"))
    (plain,) = [kind for kind in costs(policy_of()) if kind.name == "tx2"]
    assert tx2.first.seconds == pytest.approx(3 * plain.first.seconds + tx2.first.up_bytes * 8 / 1e6)


def test_a_run_costs_the_slowest_class_of_every_round_and_the_bytes_of_all() -> None:
    policy = policy_of("run.rounds=2")  # both of warm-up: nothing is cut
    agx, tx2 = costs(policy)
    cost = whole_cost(policy)
    assert cost.rounds == 2
    assert cost.seconds == pytest.approx(2 * max(agx.first.seconds, tx2.first.seconds))
    assert cost.up_bytes == pytest.approx(2 * (3 * agx.first.up_bytes + 2 * tx2.first.up_bytes))
    assert whole_cost(policy_of("run.rounds=2", "strategy.cohort=1")).up_bytes == pytest.approx(cost.up_bytes / 5)


def test_devices_that_cannot_join_cost_nothing() -> None:
    cost = whole_cost(limited(1, "run.rounds=2"))
    agx, _ = costs(limited(1, "run.rounds=2"))
    assert cost.up_bytes == pytest.approx(2 * 3 * agx.first.up_bytes)
    assert math.isclose(cost.seconds, 2 * agx.first.seconds)


def test_local_steps_follow_from_the_rows_of_the_largest_device() -> None:
    policy = policy_of("training.local_steps=auto")
    [small, _], [large, _], [unknown, _] = (costs(policy, agx=16), costs(policy, agx=10**6), costs(policy))
    assert small.first.seconds < large.first.seconds == unknown.first.seconds


def test_a_teacher_needs_the_dense_model_too() -> None:
    assert {kind.teacher_mb for kind in costs(policy_of())} == {None}
    for kind in costs(policy_of("training.distill=0.5"), agx=100, tx2=100):
        assert kind.teacher_mb is not None and kind.teacher_mb > 0
    uncut = policy_of("training.distill=0.5", "strategy.target_sparsity=0")
    assert {kind.teacher_mb for kind in costs(uncut)} == {None}
