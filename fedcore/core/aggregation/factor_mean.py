"""Weighted mean of the factors' increments, elementwise in full coordinates; the default aggregator.

    A' = A + eta * sum_k w_k E_k(dA_k) / sum_k w_k          B' likewise

E_k writes a device's increment into full coordinates: a rank prefix, and the rows or columns that it keeps. What a
device does not hold is a zero increment *with its full weight*. So nothing is overwritten, and no device's share grows
because another one is absent. Where all ranks and keep-sets agree and eta = 1 this is FedIT (Zhang et al. 2023, arXiv
2305.05644). Sums are integers (fixed_point): any order, tree or retry gives the same bits.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedcore.core.aggregation.sums.fixed_point import stepped
from fedcore.core.aggregation.sums.members import Members
from fedcore.core.aggregation.sums.narrow_sums import NarrowSums
from fedcore.core.aggregation.sums.partial_wire import (
    FRAME_BYTES,
    MEMBER_BYTES,
    Buffer,
    Manifest,
    members_of,
    members_record,
    pack_partial,
    refuse_others,
    unpack_partial,
)
from fedcore.core.aggregation.sums.rank_groups import GroupKey, RankGroup, place, place_update
from fedcore.core.aggregation.sums.segments import Segment
from fedcore.core.contract.protocols import AggregateReport
from fedcore.core.contract.update import Update
from fedcore.core.contract.update_stack import UpdateStack
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.adapter import AdapterSpec, Tensors, tensor_reader


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorPartial:
    """Integer sums of every adapter tensor. Its size does not depend on the number of updates.

    The total is the sum of three parts: `whole` in full coordinates; `groups`, by rank and keep-set, in their own, of
    bounded size together; and `received` sums, still in the buffers they came in. `earlier_pairs` are the pairs of rank
    and keep-set that came at least once.
    """

    spec: AdapterSpec
    whole: RankGroup
    groups: dict[GroupKey, RankGroup] = field(default_factory=dict)
    received: list[NarrowSums] = field(default_factory=list)
    earlier_pairs: set[GroupKey] = field(default_factory=set)
    members: Members = field(default_factory=Members)


@dataclass(slots=True, kw_only=True)
class FactorMean:
    """Reducing aggregator over increments of the factors; `server_lr` is eta, the step along the mean.

    All rank groups together may take `group_bytes`, or the bytes of the float32 adapter where that is more.
    """

    server_lr: float = 1.0
    group_bytes: int = 32 << 20
    name: str = "factor-mean"
    kind: Literal["reducing", "bundling"] = "reducing"
    shifts_base: bool = False

    def server_rank(self, largest_rank: int) -> int:
        """Return `largest_rank`: coordinates persist, so no device can use more."""
        return largest_rank

    def start(self, spec: AdapterSpec, adapter: Tensors | None = None) -> FactorPartial:
        """Return the empty partial, a zero for every value; `adapter` is not needed."""
        return FactorPartial(spec=spec, whole=RankGroup.whole(spec))

    def check(self, partial: FactorPartial, update: Update) -> None:
        """Return at once: an update that `verify_update` accepts can be folded."""

    def fold(self, partial: FactorPartial, update: Update) -> FactorPartial:
        """Add one verified update, tensor by tensor, into `partial`'s arrays; `partial` is consumed.

        Raises UpdateRejected, with `partial` still whole, on a known key or a weight out of range. An update that
        fails later (it was not verified, or its lazy tensors raise) leaves `partial` half added: drop it.
        """
        members = partial.members.with_update(update)
        group = self._group(partial, update)
        if group is None:
            place_update(update, partial.whole, partial.spec)
        else:
            group.add(update, partial.spec)
        return replace(partial, members=members)

    def fold_stack(self, partial: FactorPartial, stack: UpdateStack) -> FactorPartial:
        """Add all of a verified stack, as folding its updates one by one would, in any order; `partial` is consumed.

        Raises UpdateRejected, with `partial` still whole, where `fold` would for any of them.
        """
        members = partial.members.with_stack(stack)
        group = self._group(partial, stack)
        if group is None:
            temporary = RankGroup(rank=stack.rank, keep_set=stack.keep_set)
            temporary.add_stack(stack, partial.spec)
            place(temporary, partial.whole, partial.spec)
        else:
            group.add_stack(stack, partial.spec)
        return replace(partial, members=members)

    def merge(self, left: FactorPartial, right: FactorPartial) -> FactorPartial:
        """Add `right` into `left`, consuming both; raises UpdateRejected naming shared keys."""
        if left.spec != right.spec:
            raise UpdateRejected("partials belong to different adapters; both sides must start from one AdapterSpec")
        members = left.members.with_members(right.members)
        left.whole.join(right.whole, left.spec)
        for group in right.groups.values():
            place(group, left.whole, left.spec)
        _add_received(left.received, left)
        _add_received(right.received, left)
        return replace(left, members=members)

    def finish(
        self, partial: FactorPartial, adapter: Tensors, *, consume: bool = False
    ) -> tuple[dict[str, NDArray[np.float32]], AggregateReport]:
        """Return adapter + server_lr * mean increment; without any weight, a copy of the adapter.

        Each array of sums is released once its tensors are done, and so is each tensor of `adapter` where it is
        consumed: the peak memory is that before the call, plus one array.
        """
        weight = partial.members.weight
        report = AggregateReport(weight=weight, updates=len(partial.members.keys))
        weights = dict.fromkeys(partial.spec.shapes(), weight)
        return along_means(partial, adapter, weights, server_lr=self.server_lr, consume=consume), report

    def pack(self, partial: FactorPartial, more: Manifest | None = None) -> Iterator[Buffer]:
        """Yield the sums in the fewest bytes that hold them, then the members and the fields of `more`."""
        sums = {name: total for segment in _exact(partial) for name, total in segment.tensors()}
        return pack_partial({"aggregator": self.name} | members_record(partial.members) | (more or {}), sums, {})

    def unpack(self, buffer: Buffer, spec: AdapterSpec, adapter: Tensors | None = None) -> FactorPartial:
        """Return the partial in `buffer`; its sums are widened block by block, when they are merged."""
        manifest, entries = unpack_partial(buffer, self.name)
        members = members_of(manifest)
        totals = NarrowSums(entries, spec.shapes(), weight=members.weight)
        refuse_others(entries, totals.wire_names)
        return FactorPartial(spec=spec, whole=RankGroup.whole(spec), received=[totals], members=members)

    def packed_bytes_bound(self, spec: AdapterSpec, devices: int) -> int:
        """Return eight bytes a value, and the bytes of the members; only the latter grow with `devices`."""
        return FRAME_BYTES + 8 * spec.num_values() + MEMBER_BYTES * devices

    def _group(self, partial: FactorPartial, update: Update | UpdateStack) -> RankGroup | None:
        """Return the group to add `update` to, or None where the update is placed by itself.

        The first update of a pair of rank and keep-set is placed by itself, and so is any update once the groups have
        no room left. A group costs as much as placing one update, so it pays from the third update on. A pair that
        comes a second time is likely to come often, since all devices of one sparsity share a keep-set; personal
        keep-sets never return.
        """
        spec, geometry = partial.spec, partial.spec.geometry
        if update.rank == spec.rank and update.keep_set.counts == geometry.dense:
            return partial.whole
        key = update.rank, update.keep_set.blob_id
        if key not in partial.earlier_pairs:
            partial.earlier_pairs.add(key)
            return None
        if key not in partial.groups:
            new = RankGroup(rank=update.rank, keep_set=update.keep_set)
            groups = *partial.groups.values(), new
            values = sum(spec.num_values(rank=group.rank, keep_set=group.keep_set) for group in groups)
            if 8 * values > max(self.group_bytes, 4 * spec.num_values()):
                return None
            partial.groups[key] = new
        return partial.groups[key]


def along_means(
    partial: FactorPartial, adapter: Tensors, weights: Mapping[str, int], *, server_lr: float, consume: bool
) -> dict[str, NDArray[np.float32]]:
    """Return adapter + server_lr * sum / weight, with a weight for every tensor; 0 leaves a tensor as it is.

    Sums are released as in `FactorMean.finish`.
    """
    before = tensor_reader(adapter, consume=consume)
    if not any(weights.values()):
        return {name: np.array(before(name), dtype=np.float32) for name in partial.spec.shapes()}
    after: dict[str, NDArray[np.float32]] = {}
    segments = _exact(partial)
    while segments:
        for name, total in segments.pop(0).tensors():
            # with no weight the sum is zero, and zero over any divisor changes no bit
            after[name] = stepped(before(name), total, weight=max(1, weights[name]), server_lr=server_lr)
    return after


def _add_received(received: list[NarrowSums], partial: FactorPartial) -> None:
    """Add received sums into the full coordinates of `partial` and release them."""
    while received:
        sums = received.pop()
        partial.whole.open(partial.spec)
        for segment in partial.whole.segments:
            for name, total in segment.tensors():
                sums.add_to(total, name)


def _exact(partial: FactorPartial) -> list[Segment]:
    """Add all parts up in full coordinates and return the sums, without bias."""
    partial.whole.open(partial.spec)
    while partial.groups:
        place(partial.groups.popitem()[1], partial.whole, partial.spec)
    _add_received(partial.received, partial)
    return partial.whole.exact()
