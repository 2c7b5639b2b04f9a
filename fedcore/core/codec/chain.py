"""Tensors to bytes and back, by a codec's name (`fedcore.core.codec.grammar`).

    "identity"         float32 as it is         "zstd"                float32, byte planes compressed, bit-exact
    "bf16" "fp16"      half the bytes, rounded  "bf16+zstd"           rounded, then byte planes compressed
    "int8" "int4"      blockwise integers       "topk:0.05+int8+zstd" a twentieth of the values, as integers

The bytes describe themselves: `decode` needs no codec name. Plain casts are ordinary safetensors files; every other
chain is one bundle of tensors and descriptions.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcore.core.codec.bundle import pack_bundle, unpack_bundle
from fedcore.core.codec.cast import CASTS, Cast
from fedcore.core.codec.container import Entry, Outline, opening, unpack
from fedcore.core.codec.grammar import parse_chain
from fedcore.core.codec.packed import Packed, pack_tensor, packed, packed_bound
from fedcore.core.errors import ProtocolError, UpdateRejected

CHAIN = "fedcore.chain"  # metadata key of a bundle of packed tensors; its value is the version of both, "1"
FREE_BYTES = 64 << 20  # decoded size that is accepted whatever the number of bytes received
MAX_GAIN = 64  # largest accepted decoded / encoded ratio beyond that, where the shapes are not known beforehand

_VERSION = "1"
_CASTS_BY_TAG: Mapping[str, Cast] = {cast.tag: cast for cast in CASTS.values()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stored:
    """One plain cast as it is stored in the container."""

    cast: Cast
    shape: tuple[int, ...]
    data: memoryview

    def tensor(self) -> NDArray[np.float32]:
        """Return the values."""
        return self.cast.widen(np.frombuffer(self.data, dtype=self.cast.dtype).reshape(self.shape))


class LazyTensors(Mapping[str, NDArray[np.float32]]):
    """Decoded tensors by name; each access decodes one, and nothing is cached. Uncompressed float32 comes as a view."""

    def __init__(self, stored: Mapping[str, _Stored | Packed]) -> None:
        self._stored = stored

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """Decode one tensor; raises ProtocolError where its bytes are damaged."""
        stored = self._stored[name]
        try:
            return stored.tensor()
        except ProtocolError as cause:
            raise ProtocolError(f"tensor {name[:80]!r}: {cause}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def encode(tensors: Mapping[str, NDArray[np.float32]], codec: str) -> bytes:
    """Return the container of float32 `tensors` under `codec`; equal tensors give equal bytes.

    >>> tensors = {"layers.0.q.B": np.array([[0.5, -1.0]], dtype=np.float32)}
    >>> data = encode(tensors, "bf16+zstd")
    >>> len(data) <= encoded_bytes_bound({"layers.0.q.B": (1, 2)}, "bf16+zstd")
    True
    >>> decode(data)["layers.0.q.B"].tolist()
    [[0.5, -1.0]]

    The caller does the error feedback: "ef+int8" gives the bytes of "int8".
    Raises ConfigError for an unknown codec and ValueError for a tensor that is not float32.
    """
    return b"".join(encode_chunks(tensors, codec))


def encode_chunks(tensors: Mapping[str, NDArray[np.float32]], codec: str) -> Iterator[bytes | memoryview]:
    """Yield the bytes of `encode` in order; plain casts come tensor by tensor, so that no copy of all of them is made.

    A float32 tensor comes as a view of the caller's tensor. Raises like `encode`, before or between chunks.
    """
    chain = parse_chain(codec)
    for name, value in tensors.items():
        if value.dtype != np.float32:
            raise ValueError(f"tensor {name!r}: expected float32, got {value.dtype}")
    if isinstance(chain.format, Cast) and chain.share is None and not chain.compress:
        yield opening({name: Outline(tag=chain.format.tag, shape=tensors[name].shape) for name in sorted(tensors)}, {})
        for name in sorted(tensors):
            yield chain.format.store(tensors[name].reshape(-1))[0].view(np.uint8).data
    else:
        yield pack_bundle({name: pack_tensor(tensors[name], chain) for name in sorted(tensors)}, {CHAIN: _VERSION})


def decode(
    buffer: bytes | memoryview, *, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Mapping[str, NDArray[np.float32]]:
    """Return the tensors in `buffer`, decoded one per access; `buffer` is not copied and must stay unchanged.

    Pass `shapes` where they are known: names and shapes are compared before any tensor is decoded. Without `shapes`, a
    decoded size above both 64 MiB and 64 times the buffer is refused.
    Raises ProtocolError for a malformed buffer (also on access, for damaged compressed bytes) and UpdateRejected for
    other names or shapes than expected.
    """
    entries, metadata = unpack(buffer)
    stored = _stored(entries, metadata)
    if shapes is not None:
        _check_shapes(stored, shapes)
    else:
        decoded = 4 * sum(math.prod(tensor.shape) for tensor in stored.values())
        if decoded > max(FREE_BYTES, MAX_GAIN * memoryview(buffer).nbytes):
            raise ProtocolError(f"{memoryview(buffer).nbytes} bytes claim to decode to {decoded}; refused as a bomb")
    return LazyTensors(stored)


def encoded_bytes_bound(shapes: Mapping[str, tuple[int, ...]], codec: str) -> int:
    """Return a number of bytes that `encode` never exceeds for float32 tensors of these names and shapes."""
    chain = parse_chain(codec)
    total = 8 + 8 + 304  # header length, padding, and the rest of the header beside its tensors
    for name, shape in shapes.items():
        quoted = json.dumps(name)
        total += packed_bound(shape, chain)
        total += len(quoted) + 96 + 21 * len(shape)  # a 64-bit number and its comma take at most 21 characters
        total += len(json.dumps(quoted)) + 320 + 21 * len(shape)  # its description, with up to nine such numbers
    return total


def _stored(entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> dict[str, _Stored | Packed]:
    if CHAIN in metadata:
        if metadata[CHAIN] != _VERSION:
            raise ProtocolError(f"chain of version {metadata[CHAIN][:20]!r}, expected {_VERSION!r}; update fedcore")
        return {name: packed(name, data, described) for name, (data, described) in unpack_bundle(entries).items()}
    return {name: _plain(name, entry) for name, entry in entries.items()}


def _plain(name: str, entry: Entry) -> _Stored:
    if entry.tag not in _CASTS_BY_TAG:
        raise ProtocolError(f"tensor {name[:80]!r}: expected a float dtype, got {entry.tag} without a description")
    return _Stored(cast=_CASTS_BY_TAG[entry.tag], shape=entry.shape, data=entry.data)


def _check_shapes(stored: Mapping[str, _Stored | Packed], shapes: Mapping[str, tuple[int, ...]]) -> None:
    if set(stored) != set(shapes):
        missing, extra = sorted(set(shapes) - set(stored)), sorted(set(stored) - set(shapes))
        raise UpdateRejected(f"missing tensors {missing[:3]}, unexpected {[name[:80] for name in extra[:3]]}")
    for name, tensor in stored.items():
        if tensor.shape != tuple(shapes[name]):
            raise UpdateRejected(f"tensor {name!r} has shape {tensor.shape}, expected {tuple(shapes[name])}")
