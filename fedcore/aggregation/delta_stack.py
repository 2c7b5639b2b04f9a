"""Exact weighted mean of the products' increments, for mixed ranks and masks; redistributed by SVD.

    G' = G + eta * sum_k p_k (B1_k A1_k - B0_k A0_k)        p_k = w_k / sum w

held as balanced factors of the server rank. Stacking is FLoRA's (Wang et al. 2024, arXiv 2409.05976), SVD hand-out
FlexLoRA's (Bai et al. 2024, arXiv 2402.11505); taking *increments* of the product, which keeps what a device did not
hold, and the one-sided masks are this project's. Task heads go the integer way of factor-mean.

Bits repeat for one NumPy build, CPU family and a single BLAS thread: leaves are sorted by key before the one
decomposition at the root.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedcore.adapter import AdapterSpec, Tensors
from fedcore.aggregation.balanced import Balanced, balanced_factors, balanced_matrix
from fedcore.aggregation.bundle import StackPartial, joined, knowing, settled, with_leaf
from fedcore.aggregation.bundle_wire import bundle_bytes_bound, pack_bundle, unpack_bundle
from fedcore.aggregation.factor_mean import add_head
from fedcore.aggregation.factor_stack import LeafFactors, stacked_factors
from fedcore.aggregation.fixed_point import SCALE, stepped
from fedcore.aggregation.narrow_sums import accumulator
from fedcore.aggregation.partial_wire import Buffer
from fedcore.aggregation.placement import placement
from fedcore.protocols import AggregateReport
from fedcore.seeds import generator
from fedcore.update import Update

SERVER_RANK_FACTOR = 4
EMPTY_COMPONENT = 1e-6  # of the largest singular value: below it float32 factors hold rounding, not learning


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

    def start(self, spec: AdapterSpec, adapter: Tensors | None = None) -> StackPartial:
        """Return the empty partial; `spec.rank` is the server rank, `adapter` the one handed out (see bundle)."""
        head = {name: np.zeros(shape, dtype=np.int64) for name, shape in spec.head}
        return StackPartial(spec=spec, head=head, adapter=adapter)

    def fold(self, partial: StackPartial, update: Update) -> StackPartial:
        """Copy one verified update's factors into the bundle, one tensor at a time; `partial` is consumed.

        Raises UpdateRejected, with `partial` still whole, on a known key, a weight out of range or a product that moved
        by 2**6 or more.
        """
        folded, head = with_leaf(partial, update), accumulator(partial.head)
        add_head(head, folded.spec, update)
        return replace(folded, head=head)

    def merge(self, left: StackPartial, right: StackPartial) -> StackPartial:
        """Join two bundles, consuming both; raises UpdateRejected naming shared keys."""
        return joined(left, right)

    def finish(self, partial: StackPartial, adapter: Tensors) -> tuple[dict[str, NDArray[np.float32]], AggregateReport]:
        """Return the next adapter in a new basis; without any leaf, a copy of the adapter.

        `adapter` must be the one that was handed out: the devices' old factors are slices of it. `dropped_energy`
        is the share of all products' squared Frobenius norm that truncation to the server rank left out.
        """
        partial = settled(knowing(partial, adapter))
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

    def pack(self, partial: StackPartial) -> Iterator[Buffer]:
        """Yield the leaves' stacks, or the dense sums once those are smaller, and the head's sums."""
        return pack_bundle(partial, self.name)

    def unpack(self, buffer: Buffer, spec: AdapterSpec) -> StackPartial:
        """Return the bundle in `buffer`; its leaves are views and its sums are widened whenever they are read."""
        return unpack_bundle(buffer, spec, self.name)

    def packed_bytes_bound(self, spec: AdapterSpec, devices: int) -> int:
        """Return the bytes of `devices` full leaves or of the dense form, whichever is less, and the members."""
        return bundle_bytes_bound(spec, devices)

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
        rng = generator(self.seed, "delta-stack", max(round_ for _, round_ in partial.members.keys), layer, module)
        b, a = adapter[f"{key}.B"].astype(np.float64), adapter[f"{key}.A"].astype(np.float64)
        if partial.dense:
            moved = partial.dense[key] * (self.server_lr / (partial.members.weight * SCALE))
            return balanced_matrix(b @ a + moved, rank=spec.rank, tolerance=EMPTY_COMPONENT, rng=rng)
        cut = spec.geometry.cut(module)
        side = "out" if cut is None else cut.side
        wide_b, wide_a = stacked_factors(b, a, leaves, side=side, server_lr=self.server_lr)
        return balanced_factors(wide_b, wide_a, rank=spec.rank, tolerance=EMPTY_COMPONENT, rng=rng)
