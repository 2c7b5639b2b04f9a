"""Bundling aggregators: the bundle keeps every update apart, and a rule combines them once, at the root.

All of them share one bundle: how it grows, travels and joins. They differ in their rule. For one linear layer, a rule
makes the next factors from the factors that were handed out and the updates, sorted by key. Under every rule, task
heads are summed as integers, as in factor-mean.

Bits repeat for one NumPy build, CPU family and a single BLAS thread: the one computation, at the root, gets the updates
sorted by key.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedcore.core.aggregation.bundle.bundle import (
    StackPartial,
    check_product,
    join_bundles,
    ranks_of,
    turn_dense_if_due,
    with_adapter,
    with_update,
)
from fedcore.core.aggregation.bundle.bundle_wire import bundle_bytes_bound, pack_bundle, unpack_bundle
from fedcore.core.aggregation.bundle.factor_stack import UpdateFactors
from fedcore.core.aggregation.sums.fixed_point import SCALE, stepped
from fedcore.core.aggregation.sums.partial_wire import Buffer
from fedcore.core.aggregation.sums.placing import placement
from fedcore.core.contract.protocols import AggregateReport
from fedcore.core.contract.update import Update
from fedcore.core.contract.update_stack import UpdateStack
from fedcore.core.model.adapter import AdapterSpec, Tensors, tensor_reader
from fedcore.core.model.base_shift import SHIFT, shift_shapes, step_of, stepped_shift
from fedcore.core.model.geometry import Side
from fedcore.core.seeds import generator

Wide = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One linear layer at the end of a round: b (out, R) and a (R, in) were handed out, `updates` came back.

    Where the bundle has turned dense, `mean_increment` (out, in) is the weighted mean of the products' increments, and
    `updates` is empty. `rank` is the server rank R; `side` is where the layer is cut, "out" where it is not.
    """

    b: Wide
    a: Wide
    updates: tuple[UpdateFactors, ...]
    mean_increment: Wide | None
    side: Side
    server_lr: float
    rng: np.random.Generator

    @property
    def rank(self) -> int:
        """The server rank."""
        return int(self.a.shape[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Combined:
    """The next factors of a layer; `energy` and `dropped` are squared Frobenius norms.

    `energy` is that of the product before truncation to the server rank, `dropped` that of what truncation left out.
    `step`, factors (out, n) and (n, in), is added to the frozen base weight where the rule shifts the base.
    """

    b: Wide
    a: Wide
    energy: float = 0.0
    dropped: float = 0.0
    step: tuple[Wide, Wide] | None = None


CombineRule = Callable[[Layer], Combined]


@dataclass(slots=True, kw_only=True)
class Bundling:
    """The bundling aggregator of a `rule`.

    `has_dense_form` says that the rule needs only the mean of the products' increments, so that a bundle may turn
    dense. `shifts_base` says that every layer has a step of the base shift. `seed`, the run's, draws the rows of fresh
    components.
    """

    name: str
    rule: CombineRule
    has_dense_form: bool
    shifts_base: bool = False
    rank_factor: int = 1  # server rank over the largest rank of a device
    server_lr: float = 1.0
    seed: int = 0
    kind: Literal["reducing", "bundling"] = "bundling"

    def server_rank(self, largest_rank: int) -> int:
        """Return the largest rank of a device times the rule's factor."""
        return self.rank_factor * largest_rank

    def start(self, spec: AdapterSpec, adapter: Tensors | None = None) -> StackPartial:
        """Return the empty partial; `spec.rank` is the server rank, `adapter` the one handed out (see bundle)."""
        head = {name: np.zeros(shape, dtype=np.int64) for name, shape in spec.head}
        return StackPartial(spec=spec, head=head, has_dense_form=self.has_dense_form, adapter=adapter)

    def check(self, partial: StackPartial, update: Update) -> None:
        """Raise UpdateRejected where bundles may turn dense and the update's product moved by 2**6 or more."""
        check_product(partial, update)

    def fold(self, partial: StackPartial, update: Update) -> StackPartial:
        """Copy one verified update's factors into the bundle, one tensor at a time; `partial` is consumed.

        Raises UpdateRejected, with `partial` still whole, on a known key, a weight out of range or what
        `check` refuses.
        """
        return with_update(partial, update)

    def fold_stack(self, partial: StackPartial, stack: UpdateStack) -> StackPartial:
        """Copy every update of a verified stack into the bundle; `partial` is consumed.

        Raises UpdateRejected, with `partial` still whole, where `fold` would for any of them.
        """
        partial.members.with_stack(stack)
        updates = [stack.update(index) for index in range(len(stack))]
        for update in updates:
            self.check(partial, update)
        for update in updates:
            partial = with_update(partial, update)
        return partial

    def merge(self, left: StackPartial, right: StackPartial) -> StackPartial:
        """Join two bundles, consuming both; raises UpdateRejected naming shared keys."""
        return join_bundles(left, right)

    def finish(
        self, partial: StackPartial, adapter: Tensors, *, consume: bool = False
    ) -> tuple[dict[str, NDArray[np.float32]], AggregateReport]:
        """Return the next adapter under the rule, with the base shift where there is one; a copy where no update came.

        `adapter` is the one that was handed out: the devices' old factors are slices of it. Where the download was
        rounded, `adapter` may be the unrounded one, so that roundings do not add up from round to round. The increment
        of a stacked update then differs by the rounding; dense sums were made with the adapter that the bundle knows.
        `dropped_energy` is the share of all products' squared Frobenius norm that truncation to the server rank left
        out.
        """
        if ranks_of(partial.adapter) < ranks_of(adapter):
            partial = with_adapter(partial, adapter)
        partial, before = turn_dense_if_due(partial), tensor_reader(adapter, consume=consume)
        weight, spec = partial.members.weight, partial.spec
        after = dict.fromkeys(spec.shapes(), np.empty(0, dtype=np.float32))  # canonical order
        shifts = [name for name in shift_shapes(spec) if name in adapter] if self.shifts_base else []
        if weight == 0:
            same = {name: np.array(before(name), dtype=np.float32) for name in (*after, *shifts)}
            return same, AggregateReport(weight=0, updates=0)
        for name, total in partial.head.items():
            after[name] = stepped(before(name), total, weight=weight, server_lr=self.server_lr)
        energy = dropped = 0.0
        step: dict[str, NDArray[np.float32]] = {}
        shift: dict[str, NDArray[np.float32]] = {}
        for layer, module in spec.modules():
            key = f"layers.{layer}.{module}"
            new = self.rule(self._layer(partial, before(f"{key}.B"), before(f"{key}.A"), layer, module))
            after[f"{key}.A"], after[f"{key}.B"] = _float32(new.a), _float32(new.b)
            energy, dropped = energy + new.energy, dropped + new.dropped
            if new.step is not None:
                name = f"{key}{SHIFT}"
                layer_step = step_of(name, *new.step)
                shift[name] = stepped_shift(name, before(name) if name in shifts else None, layer_step)
                step |= layer_step
        report = AggregateReport(
            weight=weight,
            updates=len(partial.members.keys),
            dropped_energy=dropped / energy if energy else 0.0,
            step=step,
        )
        return after | shift, report

    def pack(self, partial: StackPartial) -> Iterator[Buffer]:
        """Yield the stacked factors, or the dense sums where the bundle has turned dense, and the head's sums."""
        return pack_bundle(partial, self.name)

    def unpack(self, buffer: Buffer, spec: AdapterSpec, adapter: Tensors | None = None) -> StackPartial:
        """Return the bundle in `buffer`; its factors are views, and its sums are widened at each read."""
        partial = unpack_bundle(buffer, spec, self.name, has_dense_form=self.has_dense_form)
        return partial if adapter is None else with_adapter(partial, adapter)

    def packed_bytes_bound(self, spec: AdapterSpec, devices: int) -> int:
        """Return the bytes of `devices` full updates, or of the dense form where that is less and allowed."""
        return bundle_bytes_bound(spec, devices, has_dense_form=self.has_dense_form)

    def _layer(
        self, partial: StackPartial, b: NDArray[np.float32], a: NDArray[np.float32], layer: int, module: str
    ) -> Layer:
        """Return the rule's input for one layer, and release the part of `partial` that it is made of."""
        key, spec, weight = f"layers.{layer}.{module}", partial.spec, partial.members.weight
        mean_increment = None
        if partial.dense:
            mean_increment = _released(partial.dense, key).astype(np.float64)
            mean_increment /= weight * SCALE
        updates = tuple(
            UpdateFactors(
                share=update.weight / weight,
                da=update.tensors.pop(f"{key}.A"),
                db=update.tensors.pop(f"{key}.B"),
                at=placement(spec, update.keep_set, layer, module),
            )
            for _, update in sorted(partial.updates.items(), key=lambda item: item[0])
        )
        cut, last = spec.geometry.cut(module), max(round_ for _, round_ in partial.members.keys)
        return Layer(
            b=b.astype(np.float64),
            a=a.astype(np.float64),
            updates=updates,
            mean_increment=mean_increment,
            side="out" if cut is None else cut.side,
            server_lr=self.server_lr,
            rng=generator(self.seed, self.name, last, layer, module),
        )


def _float32(values: Wide) -> NDArray[np.float32]:
    return np.ascontiguousarray(values, dtype=np.float32)


def _released(sums: Mapping[str, NDArray[np.int64]], name: str) -> NDArray[np.int64]:
    return sums.pop(name) if isinstance(sums, dict) else sums[name]
