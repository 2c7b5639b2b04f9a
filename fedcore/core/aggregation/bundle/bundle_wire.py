"""A bundle on the wire: its leaves' factors with weight, rank and keep-set, and its integer sums.

Fields of the manifest beyond those of every partial: "leaves" [[device, round, weight, rank, index of its keep-set],
...] sorted, "keep_sets" each once, and "bytes_stacked" of all members, which decides when a bundle turns dense. Members
that are no leaves are in the dense sums.
"""

import json
import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from fedcore.core.aggregation.bundle.bundle import StackPartial
from fedcore.core.aggregation.bundle.densify import dense_bytes
from fedcore.core.aggregation.bundle.leaf import BundledUpdate, factor_shapes, stacked_bytes
from fedcore.core.aggregation.sums.members import Key, Members
from fedcore.core.aggregation.sums.narrow_sums import NarrowSums
from fedcore.core.aggregation.sums.partial_wire import (
    FRAME_BYTES,
    LEAF,
    MEMBER_BYTES,
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

_LEAF_BYTES = MEMBER_BYTES + 48  # of one row of "leaves": a member with weight, rank and index


def pack_bundle(partial: StackPartial, aggregator: str) -> Iterator[Buffer]:
    """Yield the blob of a bundle; equal bundles give equal bytes."""
    leaves = sorted(partial.leaves.items(), key=lambda item: item[0])
    numbers: dict[KeepSet, int] = {}
    for _, leaf in leaves:
        numbers.setdefault(leaf.keep_set, len(numbers))
    manifest = members_record(partial.members) | {
        "aggregator": aggregator,
        "bytes_stacked": partial.bytes_stacked,
        "keep_sets": [{"channels": each.channels, "heads": each.heads} for each in numbers],
        "leaves": [[*key, leaf.weight, leaf.rank, numbers[leaf.keep_set]] for key, leaf in leaves],
    }
    stacks = {
        f"{LEAF}{index}": [leaf.tensors[name] for name in factor_shapes(partial.spec, rank=1, keep_set=leaf.keep_set)]
        for index, (_, leaf) in enumerate(leaves)
    }
    return pack_partial(manifest, {**partial.head, **partial.dense}, stacks)


def unpack_bundle(buffer: Buffer, spec: AdapterSpec, aggregator: str, *, settles: bool = True) -> StackPartial:
    """Return the bundle in `buffer`, its leaves as views, without the adapter; raises like `Aggregator.unpack`.

    Without `settles` every member must be a leaf.
    """
    manifest, entries = unpack_partial(buffer, aggregator)
    members = members_of(manifest)
    leaves = _leaves(manifest, entries, spec)
    reduced = _reduced(members, leaves)
    if reduced.keys and not settles:
        raise UpdateRejected(f"partial: {aggregator} needs all leaves, got {len(reduced.keys)} members without factors")
    size = count(manifest.get("bytes_stacked"), "bytes_stacked")
    stacked = sum(stacked_bytes(spec, rank=leaf.rank, keep_set=leaf.keep_set) for leaf in leaves.values())
    if size < (max(stacked, dense_bytes(spec)) if reduced.keys else stacked) or (size > stacked and not reduced.keys):
        raise UpdateRejected(f"partial: {size} stacked bytes do not fit its {len(leaves)} leaves; pack it again")
    head = NarrowSums(entries, dict(spec.head), weight=members.weight)
    dense: Mapping[str, NDArray[np.int64]] = {}
    known = head.wire_names | {f"{LEAF}{index}" for index in range(len(leaves))}
    if reduced.keys:
        shapes = {f"layers.{layer}.{module}": spec.geometry.shape(module) for layer, module in spec.modules()}
        sums = NarrowSums(entries, shapes, weight=reduced.weight)
        dense, known = sums, known | sums.wire_names
    refuse_others(entries, known)
    return StackPartial(
        spec=spec, head=head, settles=settles, dense=dense, leaves=leaves, bytes_stacked=size, members=members
    )


def bundle_bytes_bound(spec: AdapterSpec, devices: int, *, settles: bool = True) -> int:
    """Return the most bytes of a bundle of `devices` leaves; one that settles knows the adapter and does so in time."""
    full = KeepSet.full(spec.geometry)
    stacks = devices * stacked_bytes(spec, rank=spec.rank, keep_set=full)
    stacks = min(stacks, dense_bytes(spec)) if settles else stacks
    head = sum(8 * math.prod(shape) for _, shape in spec.head)
    manifest = devices * (MEMBER_BYTES + _LEAF_BYTES + len(full.to_bytes()))
    return FRAME_BYTES + stacks + head + manifest


def _leaves(manifest: Manifest, entries: Mapping[str, Entry], spec: AdapterSpec) -> dict[Key, BundledUpdate]:
    rows, keys = manifest.get("leaves"), keys_of(manifest.get("leaves"))
    keep_sets = _keep_sets(manifest.get("keep_sets"), spec)
    leaves: dict[Key, BundledUpdate] = {}
    for index, (key, row) in enumerate(zip(keys, rows if isinstance(rows, list) else (), strict=True)):
        if len(row) != 5:
            raise ProtocolError("partial's manifest: expected leaves as [device, round, weight, rank, keep-set]")
        weight, rank, number = count(row[2], "a weight"), count(row[3], "a rank"), count(row[4], "a keep-set's index")
        who = f"partial: update of {key[0]} for round {key[1]}"
        if weight < 1 or not 1 <= rank <= spec.rank or number >= len(keep_sets):
            raise UpdateRejected(
                f"{who}: expected a weight of at least 1, a rank from 1 to {spec.rank} and one of {len(keep_sets)} "
                f"keep-sets, got {weight}, {rank} and number {number}"
            )
        tensors = _factors(entries.get(f"{LEAF}{index}"), spec, rank, keep_sets[number], who)
        leaves[key] = BundledUpdate(weight=weight, rank=rank, keep_set=keep_sets[number], tensors=tensors)
    return leaves


def _factors(
    entry: Entry | None, spec: AdapterSpec, rank: int, keep_set: KeepSet, who: str
) -> dict[str, NDArray[np.float32]]:
    shapes = factor_shapes(spec, rank=rank, keep_set=keep_set)
    values = sum(shape[0] * shape[1] for shape in shapes.values())
    if entry is None or entry.tag != "F32" or entry.shape != (values,):
        raise UpdateRejected(f"{who}: expected {values} float32 values of factors in one tensor")
    flat = np.frombuffer(entry.data, dtype="<f4")
    if not peak(flat) < MAX_ABS_VALUE:
        raise UpdateRejected(f"{who}: expected finite increments below {MAX_ABS_VALUE:g} in absolute value")
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


def _reduced(members: Members, leaves: Mapping[Key, BundledUpdate]) -> Members:
    """Return the members that are no leaves; raises UpdateRejected where leaves and members do not add up."""
    keys = members.keys - leaves.keys()
    weight = members.weight - sum(leaf.weight for leaf in leaves.values())
    if not leaves.keys() <= members.keys or weight < len(keys) or (weight > 0 and not keys):
        raise UpdateRejected(
            f"partial: {len(leaves)} leaves do not add up with {len(members.keys)} members of weight {members.weight}"
        )
    return Members(keys=keys, weight=weight)
