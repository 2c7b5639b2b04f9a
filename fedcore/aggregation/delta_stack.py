"""Exact weighted mean of the products' increments, for mixed ranks and masks; redistributed by SVD.

    G' = G + eta * sum_k p_k (B1_k A1_k - B0_k A0_k)        p_k = w_k / sum w

held as balanced factors of the server rank. Stacking is FLoRA's (Wang et al. 2024, arXiv 2409.05976), SVD hand-out
FlexLoRA's (Bai et al. 2024, arXiv 2402.11505); taking *increments* of the product, which keeps what a device did not
hold, and the one-sided masks are this project's. Task heads go the integer way of factor-mean.

Bits repeat for one NumPy build, CPU family and a single BLAS thread: leaves are sorted by key before the one
decomposition at the root.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedcore.adapter import AdapterSpec, Tensors
from fedcore.aggregation.balanced import Balanced, balanced_factors, balanced_matrix
from fedcore.aggregation.bundle import StackPartial, joined, knowing, settled, with_leaf
from fedcore.aggregation.bundle_wire import bundle_bytes_bound, pack_bundle, unpack_bundle
from fedcore.aggregation.densify import check_products
from fedcore.aggregation.factor_stack import LeafFactors, stacked_factors
from fedcore.aggregation.fixed_point import SCALE, stepped
from fedcore.aggregation.partial_wire import Buffer
from fedcore.aggregation.placement import placement
from fedcore.aggregation.taking import taken
from fedcore.protocols import AggregateReport
from fedcore.seeds import generator
from fedcore.update import Update
from fedcore.update_stack import UpdateStack

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

    def check(self, partial: StackPartial, update: Update) -> None:
        """Raise UpdateRejected where the update's product moved by 2**6 or more somewhere."""
        if partial.adapter is not None:
            check_products(update.key, update, partial.spec, partial.adapter)

    def fold(self, partial: StackPartial, update: Update) -> StackPartial:
        """Copy one verified update's factors into the bundle, one tensor at a time; `partial` is consumed.

        Raises UpdateRejected, with `partial` still whole, on a known key, a weight out of range or a product that moved
        by 2**6 or more.
        """
        return with_leaf(partial, update)

    def fold_stack(self, partial: StackPartial, stack: UpdateStack) -> StackPartial:
        """Copy every update of a verified stack into the bundle; `partial` is consumed.

        Raises UpdateRejected, with `partial` still whole, where `fold` would for any of them.
        """
        partial.members.with_stack(stack)
        updates = [stack.update(index) for index in range(len(stack))]
        for update in updates:
            self.check(partial, update)
        for update in updates:
            partial = with_leaf(partial, update)
        return partial

    def merge(self, left: StackPartial, right: StackPartial) -> StackPartial:
        """Join two bundles, consuming both; raises UpdateRejected naming shared keys."""
        return joined(left, right)

    def finish(
        self, partial: StackPartial, adapter: Tensors, *, consume: bool = False
    ) -> tuple[dict[str, NDArray[np.float32]], AggregateReport]:
        """Return the next adapter in a new basis; without any leaf, a copy of the adapter.

        `adapter` must be the one that was handed out: the devices' old factors are slices of it. `dropped_energy`
        is the share of all products' squared Frobenius norm that truncation to the server rank left out.
        """
        partial, before = settled(knowing(partial, adapter)), taken(adapter, consume=consume)
        weight, spec = partial.members.weight, partial.spec
        after = dict.fromkeys(spec.shapes(), np.empty(0, dtype=np.float32))  # canonical order
        if weight == 0:
            return {name: np.array(before(name), dtype=np.float32) for name in after}, AggregateReport(
                weight=0, leaves=0
            )
        for name, total in partial.head.items():
            after[name] = stepped(before(name), total, weight=weight, server_lr=self.server_lr)
        energy = dropped = 0.0
        for layer, module in spec.modules():
            key = f"layers.{layer}.{module}"
            new = self._redistribute(partial, before(f"{key}.B"), before(f"{key}.A"), layer, module)
            after[f"{key}.A"], after[f"{key}.B"] = new.a.astype(np.float32), new.b.astype(np.float32)
            energy, dropped = energy + new.energy, dropped + new.dropped
        share, leaves = dropped / energy if energy else 0.0, len(partial.members.keys)
        return after, AggregateReport(weight=weight, leaves=leaves, dropped_energy=share, basis_changed=True)

    def pack(self, partial: StackPartial) -> Iterator[Buffer]:
        """Yield the leaves' stacks, or the dense sums once those are smaller, and the head's sums."""
        return pack_bundle(partial, self.name)

    def unpack(self, buffer: Buffer, spec: AdapterSpec, adapter: Tensors | None = None) -> StackPartial:
        """Return the bundle in `buffer`; its leaves are views and its sums are widened whenever they are read."""
        partial = unpack_bundle(buffer, spec, self.name)
        return partial if adapter is None else knowing(partial, adapter)

    def packed_bytes_bound(self, spec: AdapterSpec, devices: int) -> int:
        """Return the bytes of `devices` full leaves or of the dense form, whichever is less, and the members."""
        return bundle_bytes_bound(spec, devices)

    def _redistribute(
        self, partial: StackPartial, b: NDArray[np.float32], a: NDArray[np.float32], layer: int, module: str
    ) -> Balanced[np.float64]:
        """Decompose one layer's next product; `b` and `a` were handed out, what it needs of `partial` is released."""
        key, spec, weight = f"layers.{layer}.{module}", partial.spec, partial.members.weight
        rng = generator(self.seed, "delta-stack", max(round_ for _, round_ in partial.members.keys), layer, module)
        wide_b, wide_a = b.astype(np.float64), a.astype(np.float64)
        if partial.dense:
            moved = _released(partial.dense, key).astype(np.float64)
            moved *= self.server_lr / (weight * SCALE)
            moved += wide_b @ wide_a
            return balanced_matrix(moved, rank=spec.rank, tolerance=EMPTY_COMPONENT, rng=rng)
        leaves = [
            LeafFactors(
                share=leaf.weight / weight,
                da=leaf.tensors.pop(f"{key}.A"),
                db=leaf.tensors.pop(f"{key}.B"),
                at=placement(spec, leaf.keep_set, layer, module),
            )
            for _, leaf in sorted(partial.leaves.items(), key=lambda item: item[0])
        ]
        cut = spec.geometry.cut(module)
        side = "out" if cut is None else cut.side
        wide_b, wide_a = stacked_factors(wide_b, wide_a, leaves, side=side, server_lr=self.server_lr)
        return balanced_factors(wide_b, wide_a, rank=spec.rank, tolerance=EMPTY_COMPONENT, rng=rng)


def _released(sums: Mapping[str, NDArray[np.int64]], name: str) -> NDArray[np.int64]:
    return sums.pop(name) if isinstance(sums, dict) else sums[name]
