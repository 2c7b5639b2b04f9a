"""Exact weighted mean of the products' increments, for mixed ranks and masks; redistributed by SVD.

    G' = G + eta * sum_k p_k (B1_k A1_k - B0_k A0_k)        p_k = w_k / sum w

held as balanced factors of the server rank. Stacking is FLoRA's (Wang et al. 2024, arXiv 2409.05976), SVD hand-out
FlexLoRA's (Bai et al. 2024, arXiv 2402.11505); taking *increments* of the product, which keeps what a device did not
hold, and the one-sided masks are this project's. Task heads go the integer way of factor-mean.

Bits repeat for one NumPy build, CPU family and a single BLAS thread: leaves are sorted by key before the one
decomposition at the root.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedcore.adapter import AdapterSpec, Tensors
from fedcore.aggregation.balanced import Balanced, balanced_factors
from fedcore.aggregation.factor_mean import add_head
from fedcore.aggregation.factor_stack import LeafFactors, stacked_factors
from fedcore.aggregation.fixed_point import stepped
from fedcore.aggregation.members import Key, Members
from fedcore.aggregation.placement import placement
from fedcore.errors import UpdateRejected
from fedcore.keep_set import KeepSet
from fedcore.protocols import AggregateReport
from fedcore.seeds import generator
from fedcore.update import Update

SERVER_RANK_FACTOR = 4
EMPTY_COMPONENT = 1e-6  # of the largest singular value: below it float32 factors hold rounding, not learning


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """One device's factor increments as they came, float32, in its own coordinates."""

    weight: int
    keep_set: KeepSet
    tensors: dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class StackPartial:
    """Every leaf's factors by (device, round), unreduced, and the integer sums of the task head."""

    spec: AdapterSpec
    head: dict[str, NDArray[np.int64]]
    leaves: dict[Key, Leaf] = field(default_factory=dict)
    members: Members = field(default_factory=Members)


@dataclass(slots=True, kw_only=True)
class DeltaStack:
    """Bundling aggregator over increments of the product; `seed` draws the rows that restart empty components."""

    server_lr: float = 1.0
    seed: int = 0
    name: str = "delta-stack"
    kind: Literal["reducing", "bundling"] = "bundling"

    def server_rank(self, largest_rank: int) -> int:
        """Return four times `largest_rank`: room for what devices of small rank cannot hold."""
        return SERVER_RANK_FACTOR * largest_rank

    def start(self, spec: AdapterSpec) -> StackPartial:
        """Return the empty partial; `spec.rank` is the server rank."""
        return StackPartial(spec=spec, head={name: np.zeros(shape, dtype=np.int64) for name, shape in spec.head})

    def fold(self, partial: StackPartial, update: Update) -> StackPartial:
        """Copy one verified update's factors into the bundle, one tensor at a time; `partial` is consumed.

        Raises UpdateRejected, with `partial` still whole, on a known key or a weight out of range.
        """
        members = partial.members.with_update(update)
        names = [f"layers.{layer}.{module}.{factor}" for layer, module in partial.spec.modules() for factor in "AB"]
        tensors = {name: np.array(update.tensors[name], dtype=np.float32) for name in names}
        add_head(partial.head, partial.spec, update)
        partial.leaves[update.key] = Leaf(weight=update.weight, keep_set=update.keep_set, tensors=tensors)
        return replace(partial, members=members)

    def merge(self, left: StackPartial, right: StackPartial) -> StackPartial:
        """Join two bundles, consuming both; raises UpdateRejected naming shared keys."""
        if left.spec != right.spec:
            raise UpdateRejected("partials belong to different adapters; both sides must start from one AdapterSpec")
        members = left.members.with_members(right.members)
        for name, total in right.head.items():
            left.head[name] += total
        left.leaves.update(right.leaves)
        return replace(left, members=members)

    def finish(self, partial: StackPartial, adapter: Tensors) -> tuple[dict[str, NDArray[np.float32]], AggregateReport]:
        """Return the next adapter in a new basis; without any leaf, a copy of the adapter.

        `adapter` must be the one that was handed out: the devices' old factors are slices of it. `dropped_energy`
        is the share of all products' squared Frobenius norm that truncation to the server rank left out.
        """
        weight, leaves = partial.members.weight, len(partial.members.keys)
        after = {name: np.array(adapter[name], dtype=np.float32) for name in partial.spec.shapes()}
        if weight == 0:
            return after, AggregateReport(weight=0, leaves=0)
        for name, total in partial.head.items():
            after[name] = stepped(adapter[name], total, weight=weight, server_lr=self.server_lr)
        energy = dropped = 0.0
        for layer, module in partial.spec.modules():
            key = f"layers.{layer}.{module}"
            new = self._redistribute(partial, adapter, layer, module)
            after[f"{key}.A"], after[f"{key}.B"] = new.a.astype(np.float32), new.b.astype(np.float32)
            energy, dropped = energy + new.energy, dropped + new.dropped
        share = dropped / energy if energy else 0.0
        return after, AggregateReport(weight=weight, leaves=leaves, dropped_energy=share, basis_changed=True)

    def _redistribute(self, partial: StackPartial, adapter: Tensors, layer: int, module: str) -> Balanced[np.float64]:
        key, spec = f"layers.{layer}.{module}", partial.spec
        leaves = [
            LeafFactors(
                share=leaf.weight / partial.members.weight,
                da=leaf.tensors[f"{key}.A"],
                db=leaf.tensors[f"{key}.B"],
                at=placement(spec, leaf.keep_set, layer, module),
            )
            for _, leaf in sorted(partial.leaves.items(), key=lambda item: item[0])
        ]
        b, a = adapter[f"{key}.B"].astype(np.float64), adapter[f"{key}.A"].astype(np.float64)
        cut = spec.geometry.cut(module)
        side = "out" if cut is None else cut.side
        wide_b, wide_a = stacked_factors(b, a, leaves, side=side, server_lr=self.server_lr)
        latest = max(round_ for _, round_ in partial.leaves)
        rng = generator(self.seed, "delta-stack", latest, layer, module)
        return balanced_factors(wide_b, wide_a, rank=spec.rank, tolerance=EMPTY_COMPONENT, rng=rng)
