"""A partial on the wire: one container of integer sums, float stacks and a manifest that names their devices.

    partial       U8   JSON: {"aggregator", "weight", "members": [[device, round], ...], ...}, keys sorted and unique
    layers.*, head.*   integer sums (narrow_sums) in the names of the adapter
    leaf.{i}      F32  one update's factors, flat, in canonical order (bundling aggregators)

Writers stream it: peak memory is one block beyond the partial. Readers get views into the buffer, so it must stay open
and unchanged until the partial has been merged into another one or dropped. The manifest is a tensor and not metadata,
because a header holds at most 1 MiB and a tier may have more members than that.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcore.core.aggregation.sums.fixed_point import MAX_TOTAL_WEIGHT
from fedcore.core.aggregation.sums.members import Members, UpdateKey
from fedcore.core.aggregation.sums.narrow_sums import outlines_of, plane, width_of
from fedcore.core.codec.container import MAX_HEADER_BYTES, TAG_BYTES, Entry, Outline, opening, parse_object, unpack
from fedcore.core.errors import ProtocolError, UpdateRejected

MANIFEST = "partial"
UPDATE_PREFIX = "leaf."
MAX_NAME = 63  # characters of a device name
MEMBER_BYTES = MAX_NAME + 32  # of one [device, round] in the manifest, at most
FRAME_BYTES = 8 + MAX_HEADER_BYTES + 256  # header length, header, and the manifest's fixed fields

Manifest = dict[str, Any]
Buffer = bytes | memoryview


def pack_partial(
    manifest: Manifest,
    sums: Mapping[str, NDArray[np.int64]],
    stacks: Mapping[str, Sequence[NDArray[np.float32]]],
) -> Iterator[Buffer]:
    """Yield the blob of a partial in order, in buffers of at most some 512 KiB or one float tensor.

    Equal partials give equal bytes. Raises ValueError where there are too many tensors for one header.
    """
    text = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode()
    outlines = {MANIFEST: Outline(tag="U8", shape=(len(text),))}
    origin: dict[str, str] = {}
    for name in sorted(sums):
        parts = outlines_of(name, sums[name].shape, width_of(sums[name]))
        outlines |= parts
        origin |= dict.fromkeys(parts, name)
    for name, stack in stacks.items():
        outlines[name] = Outline(tag="F32", shape=(sum(value.size for value in stack),))
    # widest first, as safetensors does: every tensor is aligned for a reader that maps it
    outlines = dict(sorted(outlines.items(), key=lambda item: -TAG_BYTES[item[1].tag]))
    yield opening(outlines, {})
    for name, outline in outlines.items():
        if name in origin:
            yield from plane(sums[origin[name]], name, outline.tag)
        elif name in stacks:
            yield from (_bytes_of(part) for part in stacks[name])
        else:
            yield text


def unpack_partial(buffer: Buffer, aggregator: str) -> tuple[Manifest, dict[str, Entry]]:
    """Return manifest and tensors of a partial of `aggregator`, as views; the caller checks their contents.

    Raises ProtocolError for a malformed buffer, UpdateRejected for another aggregator's partial.
    """
    entries, _ = unpack(buffer)
    described = entries.pop(MANIFEST, None)
    if described is None or described.tag != "U8":
        raise ProtocolError(f"partial: expected a U8 tensor {MANIFEST!r} with its members; got {sorted(entries)[:3]}")
    manifest = parse_object(bytes(described.data), "partial's manifest")
    if manifest.get("aggregator") != aggregator:
        raise UpdateRejected(
            f"partial: expected one of aggregator {aggregator}, got {str(manifest.get('aggregator'))[:40]!r}"
        )
    return manifest, entries


def refuse_others(entries: Mapping[str, Entry], names: set[str]) -> None:
    """Raise UpdateRejected where `entries` holds a tensor that is not in `names`."""
    extra = sorted(set(entries) - names)
    if extra:
        raise UpdateRejected(f"partial: unexpected tensors {[name[:80] for name in extra[:3]]}")


def members_record(members: Members) -> Manifest:
    """Return the manifest's fields of `members`."""
    return {"members": [list(key) for key in sorted(members.keys)], "weight": members.weight}


def members_of(manifest: Manifest) -> Members:
    """Return the members a manifest names.

    Raises ProtocolError where it is malformed, UpdateRejected for a total weight out of range.
    """
    weight = count(manifest.get("weight"), "weight")
    keys = keys_of(manifest.get("members"))
    if not len(keys) <= weight <= MAX_TOTAL_WEIGHT:
        raise UpdateRejected(
            f"partial of {len(keys)} members: expected a total weight from that number to {MAX_TOTAL_WEIGHT}, "
            f"got {weight}"
        )
    if weight and not keys:
        raise UpdateRejected(f"partial: a total weight of {weight} without any member")
    return Members(keys=frozenset(keys), weight=weight)


def keys_of(rows: object) -> list[UpdateKey]:
    """Return (device, round) of every row; raises ProtocolError unless they are sorted and unique."""
    if not isinstance(rows, list):
        raise ProtocolError("partial's manifest: expected a list of members")
    keys = [_key(row) for row in rows]
    if any(left >= right for left, right in itertools.pairwise(keys)):
        raise ProtocolError("partial's manifest: expected members sorted by device and round, each once")
    return keys


def count(value: object, what: str) -> int:
    """Return `value` as a count below 2**63; raises ProtocolError naming `what` for anything else."""
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ProtocolError(f"partial's manifest: expected {what} as a count, got {str(value)[:40]!r}")
    return value


def _key(row: object) -> UpdateKey:
    if not isinstance(row, list) or len(row) < 2 or not isinstance(row[0], str) or not 1 <= len(row[0]) <= MAX_NAME:
        raise ProtocolError(f"partial's manifest: expected [device, round], got {str(row)[:80]}")
    return row[0], count(row[1], "a round")


def _bytes_of(value: NDArray[np.float32]) -> memoryview:
    return np.ascontiguousarray(value, dtype="<f4").reshape(-1).view(np.uint8).data
