"""Codecs by name: at most one cast and at most one entropy coder, joined by '+'.

    "identity"    float32 as it is             "zstd"         float32, byte planes compressed, bit-exact
    "bf16" "fp16" half the bytes, rounded      "bf16+zstd"    rounded, then byte planes compressed

The bytes carry their own description: `decode` needs no codec name.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcore.codec.byte_planes import join_planes, split_planes
from fedcore.codec.cast import CASTS, Cast
from fedcore.codec.container import Entry, checked_shape, pack, parse_object, unpack
from fedcore.errors import ConfigError, ProtocolError, UpdateRejected

ENTROPY = "zstd"
PARTS = (*CASTS, ENTROPY)
PLANES = "fedcore.planes"  # metadata key: JSON of real dtype, shape and plane sizes of every compressed tensor
FREE_BYTES = 64 << 20  # decoded size that needs no proof by the number of bytes received
MAX_GAIN = 64  # largest believable decoded / encoded ratio beyond that, where the shapes are not known beforehand

_CASTS_BY_TAG: Mapping[str, Cast] = {cast.tag: cast for cast in CASTS.values()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """One tensor as it lies in the container; `sizes` are its plane sizes, None where it is not compressed."""

    cast: Cast
    shape: tuple[int, ...]
    sizes: tuple[int, ...] | None
    data: memoryview


class LazyTensors(Mapping[str, NDArray[np.float32]]):
    """Decoded tensors by name; each access decodes one, nothing is kept. Uncompressed float32 comes as a view."""

    def __init__(self, stored: Mapping[str, _Stored]) -> None:
        self._stored = stored

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """Decode one tensor; raises ProtocolError where its bytes are damaged."""
        each = self._stored[name]
        try:
            flat = _flat(each)
        except ProtocolError as cause:
            raise ProtocolError(f"tensor {name[:80]!r}: {cause}") from None
        return each.cast.widen(flat.reshape(each.shape))

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def check_codec(name: str) -> None:
    """Raise ConfigError, listing the known parts, unless `name` is a codec."""
    _parse(name)


def encode(tensors: Mapping[str, NDArray[np.float32]], codec: str) -> bytes:
    """Return the container of float32 `tensors` under `codec`; equal tensors give equal bytes.

    Raises ConfigError for an unknown codec and ValueError for a tensor that is not float32.
    """
    cast, compress = _parse(codec)
    entries: dict[str, Entry] = {}
    planes: dict[str, dict[str, Any]] = {}
    for name in sorted(tensors):
        value = tensors[name]
        if value.dtype != np.float32:
            raise ValueError(f"tensor {name!r}: expected float32, got {value.dtype}")
        stored = np.asarray(cast.narrow(value), order="C")
        if compress:
            parts = split_planes(stored)
            data = b"".join(parts)
            planes[name] = {"dtype": cast.tag, "shape": value.shape, "planes": [len(part) for part in parts]}
            entries[name] = Entry(tag="U8", shape=(len(data),), data=memoryview(data))
        else:
            entries[name] = Entry(tag=cast.tag, shape=value.shape, data=stored.reshape(-1).view(np.uint8).data)
    return pack(entries, {PLANES: json.dumps(planes, separators=(",", ":"))} if compress else {})


def decode(
    buffer: bytes | memoryview, *, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Mapping[str, NDArray[np.float32]]:
    """Return the tensors in `buffer`, decoded one per access; `buffer` is not copied and must stay unchanged.

    Pass `shapes` where they are known: names and shapes are compared before any tensor is decoded. Without them a
    decoded size above 64 MiB and above 64 times the buffer is refused.
    Raises ProtocolError for a malformed buffer (also on access, for damaged compressed bytes) and UpdateRejected for
    other names or shapes than expected.
    """
    entries, metadata = unpack(buffer)
    planes = parse_object(metadata[PLANES], "compressed tensors") if PLANES in metadata else None
    if planes is not None and set(planes) != set(entries):
        raise ProtocolError("compressed tensors: their description names other tensors than the container holds")
    stored = {
        name: _plain(name, entry) if planes is None else _compressed(name, entry, planes[name])
        for name, entry in entries.items()
    }
    if shapes is not None:
        _check_shapes(stored, shapes)
    else:
        decoded = 4 * sum(math.prod(each.shape) for each in stored.values())
        if decoded > max(FREE_BYTES, MAX_GAIN * memoryview(buffer).nbytes):
            raise ProtocolError(f"{memoryview(buffer).nbytes} bytes claim to decode to {decoded}; refused as a bomb")
    return LazyTensors(stored)


def encoded_bytes_bound(shapes: Mapping[str, tuple[int, ...]], codec: str) -> int:
    """Return a number of bytes that `encode` never exceeds for float32 tensors of these names and shapes."""
    cast, compress = _parse(codec)
    width = np.dtype(cast.dtype).itemsize
    total = 8 + 8 + 64  # header length, padding, and the frame of header and metadata
    for name, shape in shapes.items():
        quoted = json.dumps(name)
        total += width * math.prod(shape)
        total += len(quoted) + 96 + 21 * len(shape)  # a 64-bit number and its comma take at most 21 characters
        if compress:
            total += len(json.dumps(quoted)) + 160 + 21 * len(shape)
    return total


def _parse(name: str) -> tuple[Cast, bool]:
    parts = name.split("+")
    compress = parts[-1] == ENTROPY
    casts = parts[:-1] if compress else parts
    if len(casts) > 1 or any(part not in CASTS for part in casts) or not (casts or compress):
        known = ", ".join(PARTS)
        raise ConfigError(f"codec: expected a cast, {ENTROPY}, or cast+{ENTROPY} out of {known}; got {name!r}")
    return CASTS[casts[0] if casts else "identity"], compress


def _plain(name: str, entry: Entry) -> _Stored:
    if entry.tag not in _CASTS_BY_TAG:
        raise ProtocolError(f"tensor {name[:80]!r}: expected a float dtype, got {entry.tag} without a description")
    return _Stored(cast=_CASTS_BY_TAG[entry.tag], shape=entry.shape, sizes=None, data=entry.data)


def _compressed(name: str, entry: Entry, described: object) -> _Stored:
    fields = described if isinstance(described, dict) else {}
    tag, sizes = fields.get("dtype"), fields.get("planes")
    if entry.tag != "U8" or not isinstance(tag, str) or tag not in _CASTS_BY_TAG:
        raise ProtocolError(f"tensor {name[:80]!r}: expected U8 bytes described as one of {', '.join(_CASTS_BY_TAG)}")
    if not isinstance(sizes, list) or not all(type(size) is int for size in sizes):
        raise ProtocolError(f"tensor {name[:80]!r}: expected a list of plane sizes")
    shape = checked_shape(fields.get("shape"), name)
    return _Stored(cast=_CASTS_BY_TAG[tag], shape=shape, sizes=tuple(sizes), data=entry.data)


def _flat(stored: _Stored) -> NDArray[Any]:
    if stored.sizes is None:
        return np.frombuffer(stored.data, dtype=stored.cast.dtype)
    count = math.prod(stored.shape)
    return join_planes(stored.data, stored.sizes, count=count, dtype=stored.cast.dtype)


def _check_shapes(stored: Mapping[str, _Stored], shapes: Mapping[str, tuple[int, ...]]) -> None:
    if set(stored) != set(shapes):
        missing, extra = sorted(set(shapes) - set(stored)), sorted(set(stored) - set(shapes))
        raise UpdateRejected(f"missing tensors {missing[:3]}, unexpected {[name[:80] for name in extra[:3]]}")
    for name, each in stored.items():
        if each.shape != tuple(shapes[name]):
            raise UpdateRejected(f"tensor {name!r} has shape {each.shape}, expected {tuple(shapes[name])}")
