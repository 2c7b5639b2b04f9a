"""Weighted mean of the factors' increments, elementwise in full coordinates; the default aggregator.

    A' = A + eta * sum_k w_k E_k(dA_k) / sum_k w_k          B' likewise

E_k writes a device's increment into full coordinates: a rank prefix, and the rows or columns it keeps. What a device
does not hold is a zero increment *with its full weight*, so nothing is overwritten and nobody's share grows by the
absence of others. Where all ranks and keep-sets agree and eta = 1 this is FedIT (Zhang et al. 2023, arXiv 2305.05644).
Sums are integers (fixed_point): any order, tree or retry gives the same bits.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedcore.adapter import AdapterSpec, Tensors
from fedcore.aggregation.fixed_point import add_weighted, stepped
from fedcore.aggregation.members import Members
from fedcore.aggregation.narrow_sums import NarrowSums, accumulator, add_sums
from fedcore.aggregation.partial_wire import (
    FRAME_BYTES,
    MEMBER_BYTES,
    Buffer,
    members_of,
    members_record,
    pack_partial,
    refuse_others,
    unpack_partial,
)
from fedcore.aggregation.placement import placement
from fedcore.errors import UpdateRejected
from fedcore.protocols import AggregateReport
from fedcore.update import Update


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorPartial:
    """Integer sums of every adapter tensor, in full coordinates. Its size does not depend on the number of leaves."""

    spec: AdapterSpec
    totals: Mapping[str, NDArray[np.int64]]
    members: Members = field(default_factory=Members)


@dataclass(slots=True, kw_only=True)
class FactorMean:
    """Reducing aggregator over increments of the factors; `server_lr` is eta, the step along the mean."""

    server_lr: float = 1.0
    name: str = "factor-mean"
    kind: Literal["reducing", "bundling"] = "reducing"

    def server_rank(self, largest_rank: int) -> int:
        """Return `largest_rank`: coordinates persist, so no device can use more."""
        return largest_rank

    def start(self, spec: AdapterSpec, adapter: Tensors | None = None) -> FactorPartial:
        """Return the empty partial: int64 zeros in the adapter's shapes. `adapter` is not needed."""
        return FactorPartial(
            spec=spec, totals={name: np.zeros(shape, dtype=np.int64) for name, shape in spec.shapes().items()}
        )

    def fold(self, partial: FactorPartial, update: Update) -> FactorPartial:
        """Add one verified update, tensor by tensor, into `partial`'s arrays; `partial` is consumed.

        Raises UpdateRejected, with `partial` still whole, on a known key or a weight out of range. An update that
        fails later (it was not verified, or its lazy tensors raise) leaves `partial` half added: drop it.
        """
        members = partial.members.with_update(update)
        spec, weight, totals = partial.spec, update.weight, accumulator(partial.totals)
        for layer, module in spec.modules():
            key = f"layers.{layer}.{module}"
            at = placement(spec, update.keep_set, layer, module)
            total_a, total_b = totals[f"{key}.A"][: update.rank], totals[f"{key}.B"][:, : update.rank]
            add_weighted(total_a, update.tensors[f"{key}.A"], weight, columns=at.a_columns)
            add_weighted(total_b, update.tensors[f"{key}.B"], weight, rows=at.b_rows)
        add_head(totals, spec, update)
        return replace(partial, totals=totals, members=members)

    def merge(self, left: FactorPartial, right: FactorPartial) -> FactorPartial:
        """Add `right` into `left`, consuming both; raises UpdateRejected naming shared keys."""
        if left.spec != right.spec:
            raise UpdateRejected("partials belong to different adapters; both sides must start from one AdapterSpec")
        members = left.members.with_members(right.members)
        if isinstance(right.totals, dict):
            left, right = right, left  # the side that has its arrays takes up the one that may lie in a buffer
        totals = accumulator(left.totals)
        add_sums(totals, right.totals)
        return replace(left, totals=totals, members=members)

    def finish(
        self, partial: FactorPartial, adapter: Tensors
    ) -> tuple[dict[str, NDArray[np.float32]], AggregateReport]:
        """Return adapter + server_lr * mean increment; without any weight, a copy of the adapter."""
        weight = partial.members.weight
        report = AggregateReport(weight=weight, leaves=len(partial.members.keys))
        if weight == 0:
            return {name: np.array(adapter[name], dtype=np.float32) for name in partial.totals}, report
        after = {
            name: stepped(adapter[name], total, weight=weight, server_lr=self.server_lr)
            for name, total in partial.totals.items()
        }
        return after, report

    def pack(self, partial: FactorPartial) -> Iterator[Buffer]:
        """Yield the sums in the fewest bytes that hold them, then the members."""
        return pack_partial({"aggregator": self.name} | members_record(partial.members), partial.totals, {})

    def unpack(self, buffer: Buffer, spec: AdapterSpec) -> FactorPartial:
        """Return the partial in `buffer`; its sums are widened one tensor at a time, whenever they are read."""
        manifest, entries = unpack_partial(buffer, self.name)
        members = members_of(manifest)
        totals = NarrowSums(entries, spec.shapes(), weight=members.weight)
        refuse_others(entries, totals.wire_names)
        return FactorPartial(spec=spec, totals=totals, members=members)

    def packed_bytes_bound(self, spec: AdapterSpec, devices: int) -> int:
        """Return eight bytes a value and the members: but for those it does not grow with `devices`."""
        return FRAME_BYTES + 8 * spec.num_values() + MEMBER_BYTES * devices


def add_head(totals: dict[str, NDArray[np.int64]], spec: AdapterSpec, update: Update) -> None:
    """Add the increments of the task head, which every device holds whole, into `totals` in place."""
    for name, _ in spec.head:
        # as one column, so that blocks can be cut from tensors of any number of axes
        add_weighted(totals[name].reshape(-1, 1), update.tensors[name].reshape(-1, 1), update.weight)
