"""The partial of a bundling aggregator: updates by key while they are few, then one dense sum per layer.

Theory of operation. Every update counts with the float32 bytes of its factors, a number that follows from its rank and
keep-set. A bundle turns dense as soon as the bytes of all its members, dense or not, reach `dense_bytes(spec)`: from
there on the dense form is smaller. So this figure (and one tensor) bounds the memory, whatever the number of devices.

Any tree gives the same bits, for three reasons. The count is a sum over members: it does not depend on order or
grouping, and it only grows. A tier that turned dense has reached the limit; the root counts that tier's members too,
so the root reaches the limit as well and turns everything dense before it decomposes. What one update adds to the dense
form depends on that update and the adapter handed out alone, as integers. Below the limit no tier turns dense, and the
root holds all updates, sorted by key.

Some rules need the factors of every update, and not only the mean of the products' increments. They cannot read the
dense form. Their bundles have `has_dense_form` False, stay stacked, and grow with the number of devices.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fedcore.core.aggregation.bundle.bundled_update import BundledUpdate, stacked_bytes
from fedcore.core.aggregation.bundle.densify import add_dense, check_products, dense_bytes, empty_dense
from fedcore.core.aggregation.sums.fixed_point import add_weighted
from fedcore.core.aggregation.sums.members import Members, UpdateKey
from fedcore.core.aggregation.sums.narrow_sums import accumulator, add_sums
from fedcore.core.aggregation.sums.placing import as_matrix
from fedcore.core.contract.update import Update
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.adapter import AdapterSpec, Tensors


@dataclass(frozen=True, slots=True, kw_only=True)
class StackPartial:
    """Updates by (device, round), the dense sums of updates that turned dense, and the integer sums of the task head.

    `adapter` is the one handed out, None where it is not known: such a bundle turns dense at `finish` only. A tier may
    know only the first ranks of the adapter, because its own devices hold no more. A bundle with an update of more
    ranks then stays stacked until a tier knows these ranks. `dense` is empty before the bundle turns dense, and always
    without `has_dense_form`. `bytes_stacked` counts all members.
    """

    spec: AdapterSpec
    head: Mapping[str, NDArray[np.int64]]
    has_dense_form: bool = True
    adapter: Tensors | None = None
    dense: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    updates: dict[UpdateKey, BundledUpdate] = field(default_factory=dict)
    bytes_stacked: int = 0
    members: Members = field(default_factory=Members)


def with_update(partial: StackPartial, update: Update) -> StackPartial:
    """Return the bundle with a copy of `update`'s factors and its head added; `partial` is consumed.

    Raises UpdateRejected, with `partial` still whole, on a known key, a weight out of range or a product too large.
    """
    members, spec = partial.members.with_update(update), partial.spec
    bundled, head = BundledUpdate.of(update, spec), accumulator(partial.head)
    check_product(partial, update)
    for name, _ in spec.head:
        add_weighted(as_matrix(head[name]), as_matrix(update.tensors[name]), update.weight)
    partial.updates[update.key] = bundled
    size = partial.bytes_stacked + stacked_bytes(spec, rank=update.rank, keep_set=update.keep_set)
    return turn_dense_if_due(replace(partial, head=head, members=members, bytes_stacked=size))


def join_bundles(left: StackPartial, right: StackPartial) -> StackPartial:
    """Join two bundles, heads included, consuming both; raises UpdateRejected, both still whole, where they overlap."""
    if left.spec != right.spec:
        raise UpdateRejected("partials belong to different adapters; both sides must start from one AdapterSpec")
    members = left.members.with_members(right.members)
    adapter = max((left.adapter, right.adapter), key=ranks_of)
    if adapter is not None:
        left, right = with_adapter(left, adapter), with_adapter(right, adapter)
    head, dense = accumulator(left.head), accumulator(left.dense)
    add_sums(head, right.head)
    if right.dense:
        dense = dense or empty_dense(left.spec)
        add_sums(dense, right.dense)
    size = left.bytes_stacked + right.bytes_stacked
    both = replace(left, head=head, adapter=adapter, dense=dense, updates={}, bytes_stacked=size, members=members)
    both.updates.update(left.updates)
    both.updates.update(right.updates)
    both = turn_dense_if_due(both)
    for key, update in both.updates.items():
        both.updates[key] = update.owned()
    return both


def with_adapter(partial: StackPartial, adapter: Tensors) -> StackPartial:
    """Return the bundle with the adapter handed out; raises UpdateRejected for a product that is too large."""
    if partial.has_dense_form:
        before, now = ranks_of(partial.adapter), ranks_of(adapter)
        for key, update in partial.updates.items():
            if before < update.rank <= now:
                check_products(key, update, partial.spec, adapter)
    return replace(partial, adapter=adapter)


def check_product(partial: StackPartial, update: Update) -> None:
    """Raise UpdateRejected where the product of an update is too large, as far as the known adapter tells."""
    if partial.adapter is not None and partial.has_dense_form and update.rank <= ranks_of(partial.adapter):
        check_products(update.key, update, partial.spec, partial.adapter)


def ranks_of(adapter: Tensors | None) -> int:
    """Return how many ranks of the adapter are known."""
    if adapter is None:
        return 0
    return next((int(value.shape[0]) for name, value in adapter.items() if name.endswith(".A")), 0)


def turn_dense_if_due(partial: StackPartial) -> StackPartial:
    """Return the bundle in the form that its size asks for, as far as its rule and the known adapter allow."""
    if partial.adapter is None or not partial.has_dense_form or not partial.updates:
        return partial
    if partial.bytes_stacked < dense_bytes(partial.spec):
        return partial
    if max(update.rank for update in partial.updates.values()) > ranks_of(partial.adapter):
        return partial
    dense = accumulator(partial.dense) or empty_dense(partial.spec)
    for layer, module in partial.spec.modules():
        name = f"layers.{layer}.{module}"
        for update in partial.updates.values():
            add_dense(dense[name], update, partial.spec, partial.adapter, layer, module)
            del update.tensors[f"{name}.A"], update.tensors[f"{name}.B"]
    partial.updates.clear()
    return replace(partial, dense=dense)
