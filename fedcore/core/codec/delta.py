"""A blob as its difference from a blob of equal length that the receiver has: the next adapter against the last one.

Both are read as little-endian 32-bit words; except for a short header, these are the bits of float32 values. The
difference of two nearby floats is a small integer d of either sign. d XOR (d >> 31 AND 0x7fffffff) puts the sign above
the magnitude, so that the upper byte planes are nearly empty and code to almost nothing
(`fedcore.core.codec.byte_planes`). The coding is lossless: `apply_delta` gives the same bytes and compares their hash.
"""

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

from fedcore.core.codec.byte_planes import join_planes, split_planes
from fedcore.core.codec.container import Entry, pack, parse_object, unpack
from fedcore.core.errors import BlobCorrupt, ProtocolError

DELTA = "fedcore.delta"  # metadata key: JSON of both hashes and the plane sizes
_WORD = 4
_MAGNITUDE = np.int32(0x7FFFFFFF)

Bytes = bytes | memoryview


def make_delta(old: Bytes, new: Bytes) -> bytes:
    """Return the delta that turns `old` into `new`; raises ValueError where their lengths differ."""
    if len(old) != len(new):
        raise ValueError(f"a delta needs blobs of equal length, got {len(old)} and {len(new)} bytes")
    planes = split_planes(_folded(_words(new) - _words(old)))
    data = b"".join(planes)
    facts = {"old": _hash(old), "new": _hash(new), "planes": [len(plane) for plane in planes]}
    entry = Entry(tag="U8", shape=(len(data),), data=memoryview(data))
    return pack({"delta": entry}, {DELTA: json.dumps(facts, separators=(",", ":"))})


def apply_delta(old: Bytes, delta: Bytes) -> bytes:
    """Return the blob that was `new` in `make_delta`.

    Allocations are bounded by the length of `old`. Raises ProtocolError for a malformed delta, one
    against another blob, and BlobCorrupt where the result has another hash than announced.
    """
    entries, metadata = unpack(delta)
    facts = parse_object(metadata.get(DELTA, ""), "delta")
    sizes = facts.get("planes")
    if set(entries) != {"delta"} or entries["delta"].tag != "U8":
        raise ProtocolError("delta: expected one array of bytes called 'delta'; make it again")
    if not isinstance(sizes, list) or not all(type(size) is int for size in sizes):
        raise ProtocolError("delta: expected a list of plane sizes; make it again")
    if facts.get("old") != _hash(old):
        raise ProtocolError(f"delta against {str(facts.get('old'))[:16]}, but the blob here is {_hash(old)[:16]}")
    base = _words(old)
    folded = join_planes(entries["delta"].data, sizes, count=base.size, dtype="<u4")
    new = (base + _folded(folded)).tobytes()[: len(old)]
    if facts.get("new") != _hash(new):
        raise BlobCorrupt(f"delta: expected {str(facts.get('new'))[:16]}, it gives {_hash(new)[:16]}; fetch it whole")
    return new


def _words(data: Bytes) -> NDArray[np.uint32]:
    """Return the bytes as 32-bit words, the last one padded with zeros."""
    tail = len(data) % _WORD
    return np.frombuffer(bytes(data) + bytes(_WORD - tail) if tail else data, dtype="<u4")


def _folded(words: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return two's complement as sign above magnitude, or the other way round: it is its own inverse."""
    signed = words.view("<i4")
    folded: NDArray[np.uint32] = (signed ^ ((signed >> 31) & _MAGNITUDE)).view("<u4")
    return folded


def _hash(data: Bytes) -> str:
    return hashlib.sha256(data).hexdigest()
