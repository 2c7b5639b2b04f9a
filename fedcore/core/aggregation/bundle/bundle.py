"""The partial of a bundling aggregator: leaves by key while they are few, one dense sum per layer once that is smaller.

When. Every update counts with the float32 bytes of its factors, a number that follows from its rank and keep-set. A
bundle turns dense as soon as the bytes of all its members, dense or not, reach `dense_bytes(spec)`: from there on the
dense form is the smaller one. So memory is bounded by that figure (and one tensor), whatever the number of devices.

Why any tree gives the same bits. The count is a sum over members: it does not depend on order or grouping, and it only
grows. A tier that turned dense has reached the limit, hence the root, which counts its members too, reaches it as well
and turns everything dense before it decomposes. And what one leaf adds to the dense form depends on that leaf and the
adapter handed out alone, as integers. Below the limit nobody turned dense, and the root holds all leaves, sorted.

A rule that needs every leaf's factors, not the mean of their products' increments, cannot read the dense form: its
bundles have `settles` False, stay stacked, and grow with the number of devices.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fedcore.core.aggregation.bundle.densify import add_dense, check_products, dense_bytes, empty_dense
from fedcore.core.aggregation.bundle.leaf import BundledUpdate, stacked_bytes
from fedcore.core.aggregation.sums.fixed_point import add_weighted
from fedcore.core.aggregation.sums.members import Key, Members
from fedcore.core.aggregation.sums.narrow_sums import accumulator, add_sums
from fedcore.core.aggregation.sums.placing import as_matrix
from fedcore.core.contract.update import Update
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.adapter import AdapterSpec, Tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class StackPartial:
    """Leaves by (device, round), the dense sums of those that turned dense, and the integer sums of the task head.

    `adapter` is the one handed out, None where it is not known: such a bundle turns dense at `finish` only. A tier may
    know its first ranks alone, for its own devices hold no more: with a leaf of more, the bundle stays as it is for a
    tier that knows them. `dense` is empty until then, and for good without `settles`. `bytes_stacked` counts all
    members.
    """

    spec: AdapterSpec
    head: Mapping[str, NDArray[np.int64]]
    settles: bool = True
    adapter: Tensors | None = None
    dense: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    leaves: dict[Key, BundledUpdate] = field(default_factory=dict)
    bytes_stacked: int = 0
    members: Members = field(default_factory=Members)


def with_leaf(partial: StackPartial, update: Update) -> StackPartial:
    """Return the bundle with a copy of `update`'s factors and its head added; `partial` is consumed.

    Raises UpdateRejected, with `partial` still whole, on a known key, a weight out of range or a product too large.
    """
    members, spec = partial.members.with_update(update), partial.spec
    leaf, head = BundledUpdate.of(update, spec), accumulator(partial.head)
    check_leaf(partial, update)
    for name, _ in spec.head:
        add_weighted(as_matrix(head[name]), as_matrix(update.tensors[name]), update.weight)
    partial.leaves[update.key] = leaf
    size = partial.bytes_stacked + stacked_bytes(spec, rank=update.rank, keep_set=update.keep_set)
    return settled(replace(partial, head=head, members=members, bytes_stacked=size))


def joined(left: StackPartial, right: StackPartial) -> StackPartial:
    """Join two bundles, heads included, consuming both; raises UpdateRejected, both still whole, where they overlap."""
    if left.spec != right.spec:
        raise UpdateRejected("partials belong to different adapters; both sides must start from one AdapterSpec")
    members = left.members.with_members(right.members)
    adapter = max((left.adapter, right.adapter), key=ranks_of)
    if adapter is not None:
        left, right = knowing(left, adapter), knowing(right, adapter)
    head, dense = accumulator(left.head), accumulator(left.dense)
    add_sums(head, right.head)
    if right.dense:
        dense = dense or empty_dense(left.spec)
        add_sums(dense, right.dense)
    size = left.bytes_stacked + right.bytes_stacked
    both = replace(left, head=head, adapter=adapter, dense=dense, leaves={}, bytes_stacked=size, members=members)
    both.leaves.update(left.leaves)
    both.leaves.update(right.leaves)
    both = settled(both)
    for key, leaf in both.leaves.items():
        both.leaves[key] = leaf.owned()
    return both


def knowing(partial: StackPartial, adapter: Tensors) -> StackPartial:
    """Return the bundle with the adapter handed out; raises UpdateRejected for a leaf whose product is too large."""
    if partial.settles:
        before, now = ranks_of(partial.adapter), ranks_of(adapter)
        for key, leaf in partial.leaves.items():
            if before < leaf.rank <= now:
                check_products(key, leaf, partial.spec, adapter)
    return replace(partial, adapter=adapter)


def check_leaf(partial: StackPartial, update: Update) -> None:
    """Raise UpdateRejected where the product of an update is too large, as far as the known adapter tells."""
    if partial.adapter is not None and partial.settles and update.rank <= ranks_of(partial.adapter):
        check_products(update.key, update, partial.spec, partial.adapter)


def ranks_of(adapter: Tensors | None) -> int:
    """Return how many ranks of the adapter are known."""
    if adapter is None:
        return 0
    return next((int(value.shape[0]) for name, value in adapter.items() if name.endswith(".A")), 0)


def settled(partial: StackPartial) -> StackPartial:
    """Return the bundle in the form its size asks for, as far as its rule and the known adapter allow."""
    if partial.adapter is None or not partial.settles or not partial.leaves:
        return partial
    if partial.bytes_stacked < dense_bytes(partial.spec):
        return partial
    if max(leaf.rank for leaf in partial.leaves.values()) > ranks_of(partial.adapter):
        return partial
    dense = accumulator(partial.dense) or empty_dense(partial.spec)
    for layer, module in partial.spec.modules():
        name = f"layers.{layer}.{module}"
        for leaf in partial.leaves.values():
            add_dense(dense[name], leaf, partial.spec, partial.adapter, layer, module)
            del leaf.tensors[f"{name}.A"], leaf.tensors[f"{name}.B"]
    partial.leaves.clear()
    return replace(partial, dense=dense)
