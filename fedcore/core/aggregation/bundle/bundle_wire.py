"""A bundle on the wire: the factors of each bundled update, with weight, rank and keep-set, and the integer sums.

The manifest has three fields more than that of any partial. "leaves" lists the bundled updates, sorted, as [device,
round, weight, rank, index of the keep-set]. "keep_sets" lists each keep-set once. "bytes_stacked" counts all members;
it decides when a bundle turns dense. A member that is not in "leaves" is in the dense sums.
"""

import json
import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from fedcore.core.aggregation.bundle.bundle import StackPartial
from fedcore.core.aggregation.bundle.bundled_update import BundledUpdate, factor_shapes, stacked_bytes
from fedcore.core.aggregation.bundle.densify import dense_bytes
from fedcore.core.aggregation.sums.members import Members, UpdateKey
from fedcore.core.aggregation.sums.narrow_sums import NarrowSums
from fedcore.core.aggregation.sums.partial_wire import (
    FRAME_BYTES,
    MEMBER_BYTES,
    UPDATE_PREFIX,
    Buffer,
    Manifest,
    count,
    keys_of,
    members_of,
    members_record,
    pack_partial,
    refuse_others,
    unpack_partial,
)
from fedcore.core.codec.container import Entry
from fedcore.core.contract.update import MAX_ABS_VALUE, peak
from fedcore.core.errors import ProtocolError, UpdateRejected
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.keep_set import KeepSet

_UPDATE_BYTES = MEMBER_BYTES + 48  # of one row of "leaves": a member with weight, rank and index


def pack_bundle(partial: StackPartial, aggregator: str) -> Iterator[Buffer]:
    """Yield the blob of a bundle; equal bundles give equal bytes."""
    updates = sorted(partial.updates.items(), key=lambda item: item[0])
    numbers: dict[KeepSet, int] = {}
    for _, update in updates:
        numbers.setdefault(update.keep_set, len(numbers))
    manifest = members_record(partial.members) | {
        "aggregator": aggregator,
        "bytes_stacked": partial.bytes_stacked,
        "keep_sets": [{"channels": keep_set.channels, "heads": keep_set.heads} for keep_set in numbers],
        "leaves": [[*key, update.weight, update.rank, numbers[update.keep_set]] for key, update in updates],
    }
    stacks = {
        f"{UPDATE_PREFIX}{index}": [
            update.tensors[name] for name in factor_shapes(partial.spec, rank=1, keep_set=update.keep_set)
        ]
        for index, (_, update) in enumerate(updates)
    }
    return pack_partial(manifest, {**partial.head, **partial.dense}, stacks)


def unpack_bundle(buffer: Buffer, spec: AdapterSpec, aggregator: str, *, has_dense_form: bool = True) -> StackPartial:
    """Return the bundle in `buffer`, its factors as views, without the adapter; raises like `Aggregator.unpack`.

    Without `has_dense_form` every member must be in "leaves".
    """
    manifest, entries = unpack_partial(buffer, aggregator)
    members = members_of(manifest)
    updates = _updates(manifest, entries, spec)
    reduced = _reduced(members, updates)
    if reduced.keys and not has_dense_form:
        raise UpdateRejected(f"partial: {aggregator} needs all leaves, got {len(reduced.keys)} members without factors")
    size = count(manifest.get("bytes_stacked"), "bytes_stacked")
    stacked = sum(stacked_bytes(spec, rank=update.rank, keep_set=update.keep_set) for update in updates.values())
    if size < (max(stacked, dense_bytes(spec)) if reduced.keys else stacked) or (size > stacked and not reduced.keys):
        raise UpdateRejected(f"partial: {size} stacked bytes do not fit its {len(updates)} leaves; pack it again")
    head = NarrowSums(entries, dict(spec.head), weight=members.weight)
    dense: Mapping[str, NDArray[np.int64]] = {}
    expected_names = head.wire_names | {f"{UPDATE_PREFIX}{index}" for index in range(len(updates))}
    if reduced.keys:
        shapes = {f"layers.{layer}.{module}": spec.geometry.shape(module) for layer, module in spec.modules()}
        sums = NarrowSums(entries, shapes, weight=reduced.weight)
        dense, expected_names = sums, expected_names | sums.wire_names
    refuse_others(entries, expected_names)
    return StackPartial(
        spec=spec,
        head=head,
        has_dense_form=has_dense_form,
        dense=dense,
        updates=updates,
        bytes_stacked=size,
        members=members,
    )


def bundle_bytes_bound(spec: AdapterSpec, devices: int, *, has_dense_form: bool = True) -> int:
    """Return the most bytes that a bundle of `devices` updates takes.

    With `has_dense_form` the bundle is taken to know the adapter, so that it turns dense in time.
    """
    full = KeepSet.full(spec.geometry)
    stacks = devices * stacked_bytes(spec, rank=spec.rank, keep_set=full)
    stacks = min(stacks, dense_bytes(spec)) if has_dense_form else stacks
    head = sum(8 * math.prod(shape) for _, shape in spec.head)
    manifest = devices * (MEMBER_BYTES + _UPDATE_BYTES + len(full.to_bytes()))
    return FRAME_BYTES + stacks + head + manifest


def _updates(manifest: Manifest, entries: Mapping[str, Entry], spec: AdapterSpec) -> dict[UpdateKey, BundledUpdate]:
    rows, keys = manifest.get("leaves"), keys_of(manifest.get("leaves"))
    keep_sets = _keep_sets(manifest.get("keep_sets"), spec)
    updates: dict[UpdateKey, BundledUpdate] = {}
    for index, (key, row) in enumerate(zip(keys, rows if isinstance(rows, list) else (), strict=True)):
        if len(row) != 5:
            raise ProtocolError("partial's manifest: expected leaves as [device, round, weight, rank, keep-set]")
        weight, rank, number = count(row[2], "a weight"), count(row[3], "a rank"), count(row[4], "a keep-set's index")
        subject = f"partial: update of {key[0]} for round {key[1]}"
        if weight < 1 or not 1 <= rank <= spec.rank or number >= len(keep_sets):
            raise UpdateRejected(
                f"{subject}: expected a weight of at least 1, a rank from 1 to {spec.rank} and one of {len(keep_sets)} "
                f"keep-sets, got {weight}, {rank} and number {number}"
            )
        tensors = _factors(entries.get(f"{UPDATE_PREFIX}{index}"), spec, rank, keep_sets[number], subject)
        updates[key] = BundledUpdate(weight=weight, rank=rank, keep_set=keep_sets[number], tensors=tensors)
    return updates


def _factors(
    entry: Entry | None, spec: AdapterSpec, rank: int, keep_set: KeepSet, subject: str
) -> dict[str, NDArray[np.float32]]:
    shapes = factor_shapes(spec, rank=rank, keep_set=keep_set)
    values = sum(shape[0] * shape[1] for shape in shapes.values())
    if entry is None or entry.tag != "F32" or entry.shape != (values,):
        raise UpdateRejected(f"{subject}: expected {values} float32 values of factors in one tensor")
    flat = np.frombuffer(entry.data, dtype="<f4")
    if not peak(flat) < MAX_ABS_VALUE:
        raise UpdateRejected(f"{subject}: expected finite increments below {MAX_ABS_VALUE:g} in absolute value")
    tensors, start = {}, 0
    for name, (rows, columns) in ((name, (shape[0], shape[1])) for name, shape in shapes.items()):
        tensors[name] = flat[start : start + rows * columns].reshape(rows, columns)
        start += rows * columns
    return tensors


def _keep_sets(values: object, spec: AdapterSpec) -> list[KeepSet]:
    if not isinstance(values, list):
        raise ProtocolError("partial's manifest: expected a list of keep-sets")
    keep_sets = []
    for value in values:
        keep_set = KeepSet.from_bytes(json.dumps(value, separators=(",", ":")).encode())
        keep_set.validate(spec.geometry)
        keep_sets.append(keep_set)
    return keep_sets


def _reduced(members: Members, updates: Mapping[UpdateKey, BundledUpdate]) -> Members:
    """Return the members in the dense sums; raises UpdateRejected where "leaves" and members do not add up."""
    keys = members.keys - updates.keys()
    weight = members.weight - sum(update.weight for update in updates.values())
    if not updates.keys() <= members.keys or weight < len(keys) or (weight > 0 and not keys):
        raise UpdateRejected(
            f"partial: {len(updates)} leaves do not add up with {len(members.keys)} members of weight {members.weight}"
        )
    return Members(keys=keys, weight=weight)
