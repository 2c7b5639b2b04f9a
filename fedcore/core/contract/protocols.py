"""The protocols between parts: what one part may ask of another. No class inherits from these."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedcore.core.contract.assignment import Arm, Assignment
from fedcore.core.contract.outcome import Outcome
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.update import Update
from fedcore.core.contract.update_stack import UpdateStack
from fedcore.core.model.adapter import AdapterSpec, Tensors
from fedcore.core.model.keep_set import KeepSet

Json = dict[str, Any]
P = TypeVar("P")

NO_STEPS = (0,)  # an arm space's steps where there is no choice of them


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateReport:
    """The result of closing an aggregate: total weight, number of updates, and what truncation dropped."""

    weight: int
    updates: int
    dropped_energy: float = 0.0  # share of the squared Frobenius norm that truncation dropped, in [0, 1]
    step: Tensors = field(default_factory=dict, compare=False, repr=False)  # of the base shift, where there is one


class Aggregator(Protocol[P]):
    """A monoid over updates: `start` is its zero, `merge` its sum, in any order and grouping.

    Example. Two edges fold a device each, and the root adds the mean increment to the adapter that it handed out:

    >>> from fedcore.core.aggregation.factor_mean import FactorMean
    >>> from fedcore.core.model.geometry import geometry_from_config
    >>> sizes = dict.fromkeys(("hidden_size", "intermediate_size", "vocab_size", "max_position_embeddings"), 2)
    >>> ones = dict.fromkeys(("num_hidden_layers", "num_attention_heads"), 1)
    >>> geometry = geometry_from_config({"model_type": "bert", **sizes, **ones})
    >>> spec = AdapterSpec(geometry=geometry, rank=1, targets=("up",), head=())
    >>> handed_out = {name: np.zeros(shape, np.float32) for name, shape in spec.shapes().items()}
    >>> def update(device, *, weight, channels, a, b):
    ...     keep_set = KeepSet(heads=((0,),), channels=(channels,))
    ...     tensors = {"layers.0.up.A": np.array(a, np.float32), "layers.0.up.B": np.array(b, np.float32)}
    ...     return Update(device=device, round=1, weight=weight, rank=1, keep_set=keep_set, tensors=tensors)
    >>> ada = update("ada", weight=1, channels=(0, 1), a=[[4, 0]], b=[[4], [4]])
    >>> bob = update("bob", weight=3, channels=(1,), a=[[0, 4]], b=[[8]])  # pruned: of B it holds row 1 alone
    >>> aggregator = FactorMean()
    >>> north = aggregator.fold(aggregator.start(spec), ada)
    >>> south = aggregator.fold(aggregator.start(spec), bob)
    >>> after, report = aggregator.finish(aggregator.merge(north, south), handed_out)
    >>> after["layers.0.up.A"].tolist()  # 4 x 1 / 4 and 4 x 3 / 4
    [[1.0, 3.0]]
    >>> after["layers.0.up.B"].tolist()  # (4 x 1 + 0 x 3) / 4, as bob does not hold row 0; (4 x 1 + 8 x 3) / 4
    [[1.0], [7.0]]
    >>> report.weight, report.updates
    (4, 2)
    """

    @property
    def name(self) -> str:
        """The name used in the configuration."""
        ...

    @property
    def kind(self) -> Literal["reducing", "bundling"]:
        """Whether a partial's size is independent of the number of updates (reducing) or grows (bundling)."""
        ...

    @property
    def shifts_base(self) -> bool:
        """Whether `finish` adds to the frozen base weights: the next tensors then hold a base shift as well."""
        ...

    def server_rank(self, largest_rank: int) -> int:
        """Return the rank of the global adapter when no device holds more than `largest_rank`."""
        ...

    def start(self, spec: AdapterSpec, adapter: Tensors | None = None) -> P:
        """Return the empty partial; every partial has `members` (keys and total weight).

        `adapter` is the one handed out for the round, kept by reference. A bundling aggregator needs it to turn stacks
        into the dense form once that is smaller; without it, the aggregator does so only in `finish`.
        """
        ...

    def check(self, partial: P, update: Update) -> None:
        """Raise UpdateRejected where `fold` would, except for key or weight; changes nothing."""
        ...

    def fold(self, partial: P, update: Update) -> P:
        """Add one verified update; may consume `partial`. Raises UpdateRejected on a key already folded."""
        ...

    def fold_stack(self, partial: P, stack: UpdateStack) -> P:
        """Add all updates of a verified stack: the same partial as folding them one by one; may consume `partial`.

        Raises UpdateRejected, with `partial` still whole, where `fold` would for any of them.
        """
        ...

    def merge(self, left: P, right: P) -> P:
        """Join two partials with disjoint keys; may consume both. Raises UpdateRejected naming shared keys.

        Afterwards no reference to an unpacked side is left: its buffer may be closed.
        """
        ...

    def pack(self, partial: P) -> Iterator[bytes | memoryview]:
        """Yield the partial's blob for the tier above, piece by piece; equal partials give equal bytes.

        The partial must not change until the last piece is taken.
        """
        ...

    def unpack(self, buffer: bytes | memoryview, spec: AdapterSpec, adapter: Tensors | None = None) -> P:
        """Return the partial packed in `buffer`, as views that merge tensor by tensor; nothing in `buffer` is trusted.

        The partial borrows `buffer` until it is merged into another or dropped. Raises ProtocolError for a
        malformed buffer and UpdateRejected for one that does not fit `spec` or, where given, the `adapter` handed out.
        After that, a merge can fail only because of the members.
        """
        ...

    def packed_bytes_bound(self, spec: AdapterSpec, devices: int) -> int:
        """Return a number of bytes that the blob of a partial of at most so many updates never exceeds."""
        ...

    def finish(
        self, partial: P, adapter: Tensors, *, consume: bool = False
    ) -> tuple[dict[str, NDArray[np.float32]], AggregateReport]:
        """Return the next global adapter from the one that was handed out, and a report.

        `partial` is consumed: its sums are released as their tensors are done. With `consume`, `adapter` must be a dict
        with no other reader; every tensor is removed from it as its successor is made. Otherwise it stays unchanged.
        """
        ...


class ServerOptimizer(Protocol):
    """Makes the step from one global adapter to the next in place of the aggregator; it has a state, the velocity."""

    @property
    def name(self) -> str:
        """The name used in the configuration."""
        ...

    def step(
        self, before: Tensors, after: dict[str, NDArray[np.float32]], velocity: Tensors | None
    ) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.float32]]]:
        """Return the next adapter and the next velocity, which has a tensor for each tensor of the adapter.

        `before` is the adapter that was handed out. `after` is `before` plus the round's mean increment; it is
        consumed. `velocity` is that of the last counted round, None before the first. Equal arguments give equal bits.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmSpace:
    """The feasible arms of a device: sparsity in [low, high] (a point where equal), ranks and steps ascending."""

    sparsity_low: float
    sparsity_high: float
    ranks: tuple[int, ...]
    steps: tuple[int, ...] = NO_STEPS  # local steps
    context: tuple[float, ...] = ()  # features of the device, for contextual bandits


class Bandit(Protocol):
    """Selects arms and learns from rewards; its state is a JSON value, equal after a round trip.

    Strategies call it for every device of a cohort: `select` when they plan a round, `observe` when they close it.

    >>> from fedcore.core.bandit.linucb import LinUcb
    >>> bandit, rng = LinUcb(ranks=(4, 8)), np.random.default_rng(0)
    >>> space = ArmSpace(sparsity_low=0.0, sparsity_high=0.5, ranks=(4, 8))
    >>> state = bandit.start()
    >>> for _ in range(20):
    ...     arm = bandit.select(state, space, rng)
    ...     state = bandit.observe(state, arm, reward=arm.sparsity if arm.rank == 8 else 0.0)
    >>> bandit.select(state, space, rng)
    Arm(sparsity=0.5, rank=8, steps=0)
    """

    @property
    def name(self) -> str:
        """The name used in the configuration."""
        ...

    def start(self) -> Json:
        """Return the state before any observation."""
        ...

    def select(self, state: Json, space: ArmSpace, rng: np.random.Generator) -> Arm:
        """Return an arm inside `space`; never changes `state`."""
        ...

    def observe(self, state: Json, arm: Arm, reward: float, context: tuple[float, ...] = ()) -> Json:
        """Return the state after `arm` earned `reward` in [0, 1] on a device whose space had this context."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundPlan:
    """The assignments of one round and the events that explain them (arm, feasible space, random path)."""

    assignments: tuple[Assignment, ...]
    events: tuple[Json, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundReport:
    """The result of `close`: one reward per observed device, and events for the log."""

    rewards: Mapping[str, float]
    events: tuple[Json, ...] = ()


class Strategy(Protocol):
    """A policy: pure decisions about the work of each device. State is a JSON value; tensors travel beside it.

    The engine calls it, on the coordinator and in a simulation, and commits the state that `close` returns.

    >>> from fedcore.core.config.toml import parse_config
    >>> from fedcore.core.contract.outcome import Status
    >>> from fedcore.core.model.geometry import geometry_from_config
    >>> from fedcore.strategies.table import make_strategy
    >>> model = {"model_type": "bert", "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4}
    >>> model |= {"intermediate_size": 64, "vocab_size": 100, "max_position_embeddings": 16}
    >>> config = parse_config("", ["strategy.name=fedspine", "strategy.target_sparsity=0.5", "run.rounds=6"])
    >>> strategy = make_strategy(config, geometry_from_config(model), [("head.weight", (2, 32))])
    >>> roster = [DeviceProfile(name=name, device_class="nx", num_examples=10) for name in ("n1", "n2")]
    >>> state, plan = strategy.plan(strategy.start(), roster, 1)
    >>> [(task.device, task.arm.sparsity, task.weight) for task in plan.assignments]
    [('n1', 0.0, 10), ('n2', 0.0, 10)]
    >>> outcomes = [
    ...     Outcome(
    ...         device=task.device, device_class="nx", round=1, arm=task.arm, status=Status.ACCEPTED, time_s=time_s
    ...     )
    ...     for task, time_s in zip(plan.assignments, (1.0, 3.0), strict=True)
    ... ]
    >>> state, report = strategy.close(state, outcomes, 1)
    >>> report.rewards["n1"] > report.rewards["n2"]  # n2 is late
    True
    """

    @property
    def name(self) -> str:
        """The name used in the configuration."""
        ...

    @property
    def aggregator(self) -> Aggregator[Any]:
        """The aggregator that folds this strategy's updates."""
        ...

    @property
    def server_optimizer(self) -> ServerOptimizer | None:
        """The optimiser that steps along the aggregated increment; None: the aggregator itself, by server_lr."""
        ...

    @property
    def spec(self) -> AdapterSpec:
        """The global adapter."""
        ...

    def start(self) -> Json:
        """Return the state before the first round."""
        ...

    def admit(self, profile: DeviceProfile) -> None:
        """Raise JoinRefused, with the figure, where no arm this run can reach fits the device's memory."""
        ...

    def plan(self, state: Json, roster: Sequence[DeviceProfile], round_index: int) -> tuple[Json, RoundPlan]:
        """Choose a cohort out of `roster` (sorted by name) and give each member an assignment.

        `round_index` counts from 1. Pure: equal arguments give equal plans; randomness comes from the run
        seed through named streams.
        """
        ...

    def close(
        self, state: Json, outcomes: Sequence[Outcome], round_index: int, *, void: bool = False
    ) -> tuple[Json, RoundReport]:
        """Observe every outcome in device-name order and return the next state; `void`: the adapter stays as it was."""
        ...

    def export_keep_set(self, state: Json, device_class: str) -> KeepSet:
        """Return the keep-set at the class's target sparsity."""
        ...
