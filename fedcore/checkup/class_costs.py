"""What one round costs devices of each class, by the strategy's cost model: memory by arm, seconds and bytes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fedcore.core.config.tables import ClassConfig
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import ArmSpace
from fedcore.core.cost.training_step import transfer_seconds
from fedcore.strategies.policy.cohort import CohortMember
from fedcore.strategies.policy.policy import Policy
from fedcore.strategies.policy.state import PolicyState


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCost:
    """The costliest arm that a class's devices may get in a round, and what it costs one of them."""

    sparsity: float
    rank: int
    seconds: float  # modelled: adapter down, local steps, update up
    down_bytes: float
    up_bytes: float  # before entropy coding


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCost:
    """The costs of one class; memory in MiB, as `memory_mb` counts it, which is 0 where it is not limited."""

    name: str
    count: int
    memory_mb: float
    target: float  # sparsity
    ranks: tuple[int, ...]
    needs_mb: tuple[tuple[float, tuple[float, ...]], ...]  # (sparsity, need at each rank), from 0 to the target
    joins_mb: int  # least memory_mb that the run admits: the smallest rank at the target
    starts_mb: int  # least memory_mb without a forced cut: the smallest rank, uncut, in the first round
    all_mb: int  # least memory_mb at which every arm fits in every round
    teacher_mb: int | None  # least memory_mb with a teacher at the target; None without training.distill
    joins: bool
    first: ArmCost  # of round 1
    last: ArmCost  # of the last round


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCost:
    """What a whole run costs at most, if every device gets the costliest arm of its round."""

    rounds: int
    seconds: float  # of the slowest class of every round, one after the other
    down_bytes: float  # to all devices of the cohorts
    up_bytes: float


Rows = Mapping[str, int]  # class -> most training rows of one of its devices

UNKNOWN_ROWS = 1_000_000  # of a class whose rows are not known: as many local steps as a device may have


def class_costs(policy: Policy, rows: Rows) -> tuple[ClassCost, ...]:
    """Return the costs of every class of the policy's configuration, in its order."""
    return tuple(_class_cost(policy, kind, rows) for kind in policy.config.classes)


def run_cost(policy: Policy, rows: Rows) -> RunCost:
    """Return what all rounds cost at most; devices that the run refuses are not counted."""
    config = policy.config
    kinds = [kind for kind in config.classes if _joins(policy, kind)]
    devices = sum(kind.count for kind in kinds)
    share = min(1.0, config.strategy.cohort / devices) if config.strategy.cohort and devices else 1.0
    state = PolicyState.from_json(policy.start())
    rounds = [
        [(kind.count * share, _arm_cost(policy, kind, rows, _space(policy, state, kind, number))) for kind in kinds]
        for number in range(1, config.run.rounds + 1)
    ]
    arms = [each for round_ in rounds for each in round_]
    return RunCost(
        rounds=config.run.rounds,
        seconds=sum(max((arm.seconds for _, arm in round_), default=0.0) for round_ in rounds),
        down_bytes=sum(count * arm.down_bytes for count, arm in arms),
        up_bytes=sum(count * arm.up_bytes for count, arm in arms),
    )


def _class_cost(policy: Policy, kind: ClassConfig, rows: Rows) -> ClassCost:
    target = policy.config.target_sparsity(kind.name)
    ranks = policy.config.strategy.ranks  # all: which of them a method gives a class may follow from its memory
    sparsities = sorted({0.0, target / 2, target})
    state = PolicyState.from_json(policy.start())
    return ClassCost(
        name=kind.name,
        count=kind.count,
        memory_mb=kind.known_memory_mb,
        target=target,
        ranks=ranks,
        needs_mb=tuple(
            (sparsity, tuple(policy.memory_mb(sparsity, rank, kind.name) for rank in ranks)) for sparsity in sparsities
        ),
        joins_mb=math.ceil(policy.memory_mb(target, ranks[0], kind.name)),  # as Policy.admit
        starts_mb=math.ceil(policy.memory_mb(0.0, ranks[0], kind.name)),
        all_mb=math.ceil(policy.memory_mb(0.0, ranks[-1], kind.name)),
        teacher_mb=_teacher_mb(policy, kind, rows),
        joins=_joins(policy, kind),
        first=_arm_cost(policy, kind, rows, _space(policy, state, kind, 1)),
        last=_arm_cost(policy, kind, rows, _space(policy, state, kind, policy.config.run.rounds)),
    )


def _teacher_mb(policy: Policy, kind: ClassConfig, rows: Rows) -> int | None:
    target = policy.config.target_sparsity(kind.name)
    counts = policy.first_counts(target)
    if policy.config.training.distill == 0 or counts == policy.spec.geometry.dense:
        return None
    profile = replace(_profile(kind), num_examples=rows.get(kind.name, UNKNOWN_ROWS))
    arm = Arm(
        sparsity=target,
        rank=policy.config.strategy.ranks[0],
        steps=max(policy.config.strategy.local_steps_choices, default=0),
    )
    return math.ceil(policy.cost.teacher_mb(profile, counts, arm))


def _joins(policy: Policy, kind: ClassConfig) -> bool:
    needed = policy.memory_mb(policy.config.target_sparsity(kind.name), policy.config.strategy.ranks[0], kind.name)
    return not kind.memory_mb or needed <= kind.memory_mb


def _profile(kind: ClassConfig) -> DeviceProfile:
    """Return the slowest device of a class."""
    return DeviceProfile(
        name=f"{kind.name}-0",
        device_class=kind.name,
        num_examples=1,
        memory_mb=kind.known_memory_mb,
        slowdown=kind.slowdown * max(kind.power_modes, default=1.0),
        uplink_mbps=min(kind.uplink_range_mbps, default=kind.uplink_mbps),
        downlink_mbps=min(kind.downlink_range_mbps, default=kind.downlink_mbps),
    )


def _space(policy: Policy, state: PolicyState, kind: ClassConfig, number: int) -> ArmSpace:
    """Return the arms that a class's devices may get in a round, if earlier rounds cut as little as they may."""
    member = CohortMember(profile=_profile(kind), weight=1, score=False)
    return policy.chooser(state, number).offer(member).space


def _arm_cost(policy: Policy, kind: ClassConfig, rows: Rows, space: ArmSpace) -> ArmCost:
    profile, cost, rank = _profile(kind), policy.cost, space.ranks[-1]
    counts = policy.first_counts(space.sparsity_low)
    step = cost.estimate(counts, rank, policy.part.least)
    down = step.down_values * cost.download_value_bytes
    up = step.up_values * cost.class_value_bytes.get(kind.name, cost.upload_value_bytes)
    steps = max(space.steps) or cost.steps_of(rows.get(kind.name, UNKNOWN_ROWS))
    return ArmCost(
        sparsity=space.sparsity_low,
        rank=rank,
        seconds=transfer_seconds(down, profile.downlink_mbps)
        + steps * step.seconds * profile.slowdown
        + transfer_seconds(up, profile.uplink_mbps),
        down_bytes=down,
        up_bytes=up,
    )
