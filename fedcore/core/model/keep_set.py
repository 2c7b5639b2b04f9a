"""The head units and FFN channels of every layer that a device keeps.

A layer that keeps none of either is removed as a whole: its block is no part of the device's model.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedcore.core.errors import ProtocolError
from fedcore.core.model.geometry import Counts, Geometry

_SHAPE_BYTES = 12  # of a packed keep-set: layers, head units, channels


@dataclass(frozen=True, kw_only=True)
class KeepSet:
    """Kept groups per layer, as sorted tuples of indices into the dense model; both are empty for a removed layer.

    Raises ProtocolError where `heads` and `channels` have different numbers of layers; `validate` checks the rest.
    """

    heads: tuple[tuple[int, ...], ...]
    channels: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        if len(self.heads) != len(self.channels):
            raise ProtocolError(f"keep-set has heads of {len(self.heads)} layers and channels of {len(self.channels)}")

    @staticmethod
    def full(geometry: Geometry) -> "KeepSet":
        """Return the keep-set that removes nothing."""
        return KeepSet(
            heads=(tuple(range(geometry.head_units)),) * geometry.layers,
            channels=(tuple(range(geometry.ffn)),) * geometry.layers,
        )

    @cached_property
    def counts(self) -> Counts:
        """The counts that every layer that is left keeps; raises ProtocolError where these differ, or none is left."""
        shapes = {(len(heads), len(channels)) for heads, channels in zip(self.heads, self.channels, strict=True)}
        shapes.discard((0, 0))
        if len(shapes) != 1:
            raise ProtocolError(f"keep-set is not uniform over layers: (heads, channels) are {sorted(shapes)}")
        return Counts(*next(iter(shapes)), removed_layers=len(self.heads) - len(self.layers))

    @cached_property
    def layers(self) -> tuple[int, ...]:
        """The layers that are left, ascending, in dense coordinates."""
        rows = enumerate(zip(self.heads, self.channels, strict=True))
        return tuple(layer for layer, (heads, channels) in rows if heads or channels)

    def sparsity(self, geometry: Geometry) -> float:
        """Realised sparsity: 1 - kept / dense parameters of the prunable groups, in [0, 1); raises like `counts`."""
        return geometry.sparsity(self.counts)

    def is_subset_of(self, other: "KeepSet") -> bool:
        """Whether every group kept here is kept in `other` (pruning is never undone); False for other layer counts."""
        return len(self.heads) == len(other.heads) and all(
            set(inner) <= set(outer)
            for inner, outer in zip((*self.heads, *self.channels), (*other.heads, *other.channels), strict=True)
        )

    def indices(self, geometry: Geometry, layer: int, module: str) -> NDArray[np.int64] | None:
        """Return kept rows or columns (by `geometry.cut(module).side`) in dense coordinates; None if never cut.

        A removed layer has none.
        """
        cut = geometry.cut(module)
        if cut is None:
            return None
        units = self._arrays[cut.unit == "channel"][layer]  # (kept units,)
        return (units[:, None] * cut.width + np.arange(cut.width)).reshape(-1)

    @cached_property
    def _arrays(self) -> tuple[tuple[NDArray[np.int64], ...], tuple[NDArray[np.int64], ...]]:
        """Heads and channels by layer as arrays: reading thousands of ints out of tuples costs more than using them."""
        heads, channels = (
            tuple(np.asarray(row, dtype=np.int64) for row in rows) for rows in (self.heads, self.channels)
        )
        return heads, channels

    def validate(self, geometry: Geometry) -> None:
        """Raise ProtocolError unless this is a legal, uniform keep-set of `geometry`."""
        if len(self.heads) != geometry.layers or len(self.channels) != geometry.layers:
            raise ProtocolError(f"keep-set has {len(self.heads)} layers, the model {geometry.layers}")
        for kind, rows, limit in (
            ("head unit", self.heads, geometry.head_units),
            ("channel", self.channels, geometry.ffn),
        ):
            for layer in self.layers:
                kept = rows[layer]
                if not kept or list(kept) != sorted(set(kept)) or kept[0] < 0 or kept[-1] >= limit:
                    raise ProtocolError(
                        f"keep-set layer {layer}: expected sorted {kind} indices in [0, {limit}), at least one"
                    )
        _ = self.counts

    def to_bytes(self) -> bytes:
        """Return the canonical serialisation; equal keep-sets give equal bytes."""
        return self._bytes

    @cached_property
    def _bytes(self) -> bytes:
        return json.dumps({"channels": self.channels, "heads": self.heads}, separators=(",", ":")).encode()

    @staticmethod
    def from_bytes(data: bytes) -> "KeepSet":
        """Return the keep-set of `to_bytes`; raises ProtocolError for other bytes, even of equal sets."""
        try:
            value = json.loads(data)
            keep_set = KeepSet(
                heads=tuple(tuple(int(i) for i in row) for row in value["heads"]),
                channels=tuple(tuple(int(i) for i in row) for row in value["channels"]),
            )
        except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as cause:
            raise ProtocolError(f"not a keep-set: {cause}") from None
        if keep_set.to_bytes() != data:
            raise ProtocolError("not a keep-set in its canonical bytes; its hash would name something else")
        return keep_set

    def to_bits(self, geometry: Geometry) -> bytes:
        """Return the keep-set as one bit per group: a fraction of `to_bytes`, for a keep-set in every assignment."""
        shape = np.array([geometry.layers, geometry.head_units, geometry.ffn], dtype="<u4")
        mask = np.zeros((geometry.layers, geometry.head_units + geometry.ffn), dtype=np.bool_)
        for row, heads, channels in zip(mask, *self._arrays, strict=True):
            row[heads] = True
            row[geometry.head_units + channels] = True
        return shape.tobytes() + np.packbits(mask).tobytes()

    @staticmethod
    def from_bits(data: bytes) -> "KeepSet":
        """Return the keep-set of `to_bits`; raises ProtocolError for other bytes."""
        shape = np.frombuffer(data[:_SHAPE_BYTES].ljust(_SHAPE_BYTES, b"\0"), dtype="<u4")
        layers, heads, channels = (int(size) for size in shape)
        count = layers * (heads + channels)
        if len(data) != _SHAPE_BYTES + -(-count // 8) or count == 0:
            raise ProtocolError(
                f"not a packed keep-set: {len(data)} bytes for {layers} layers of {heads} head units and {channels}"
                " channels; update coordinator and device"
            )
        bits = np.unpackbits(np.frombuffer(data, dtype=np.uint8, offset=_SHAPE_BYTES))
        if bits[count:].any():
            raise ProtocolError("not a packed keep-set: groups beyond the last; update coordinator and device")
        mask = bits[:count].reshape(layers, heads + channels)
        return KeepSet(
            heads=tuple(tuple(np.flatnonzero(row[:heads]).tolist()) for row in mask),
            channels=tuple(tuple(np.flatnonzero(row[heads:]).tolist()) for row in mask),
        )

    @cached_property
    def blob_id(self) -> str:
        """Content name, `sha256:<hex>` of the canonical bytes."""
        return "sha256:" + hashlib.sha256(self.to_bytes()).hexdigest()
