"""The safetensors layout: 8-byte little-endian header length, JSON header, tensor bytes without gaps.

Format: https://github.com/huggingface/safetensors. Ordinary tools open what `pack` writes. `unpack` trusts nothing:
every size is checked against the buffer before use, and no tensor byte is copied.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fedcore.core.errors import ProtocolError

TAG_BYTES: Mapping[str, int] = {
    "F32": 4,
    "BF16": 2,
    "F16": 2,
    "U8": 1,
    "I8": 1,
    "I16": 2,
    "I32": 4,
    "U32": 4,
    "I64": 8,
}
METADATA = "__metadata__"
MAX_HEADER_BYTES = 1 << 20  # some 4000 tensors; parsed JSON takes up to twenty times its text
MAX_AXES = 8
MAX_VALUES = 1 << 40
_ALIGNMENT = 8
_CACHED_LAYOUTS = 16  # all of them, parsed, take less than 20 MB
_CACHED_BYTES = 1 << 16  # of a header; a larger one is parsed anew


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """One tensor in the header: dtype tag and shape."""

    tag: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One stored tensor: dtype tag, shape, and its bytes (little-endian, row-major)."""

    tag: str
    shape: tuple[int, ...]
    data: memoryview


def pack(entries: Mapping[str, Entry], metadata: Mapping[str, str]) -> bytes:
    """Return the container; equal arguments give equal bytes, whatever the order of the mappings.

    Raises ValueError for a reserved name or a header above MAX_HEADER_BYTES.
    """
    in_order = dict(sorted(entries.items()))
    outlines = {name: Outline(tag=entry.tag, shape=entry.shape) for name, entry in in_order.items()}
    return b"".join([opening(outlines, metadata), *(entry.data for entry in in_order.values())])


def opening(outlines: Mapping[str, Outline], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes before the first tensor; the tensors' bytes must follow without gaps, in the mapping's order.

    It is for writers that produce one tensor after the other. Raises ValueError like `pack`.
    """
    if METADATA in outlines:
        raise ValueError(f"a tensor cannot be called {METADATA!r}")
    header: dict[str, Any] = {METADATA: dict(sorted(metadata.items()))} if metadata else {}
    end = 0
    for name, outline in outlines.items():
        start, end = end, end + math.prod(outline.shape) * TAG_BYTES[outline.tag]
        header[name] = {"dtype": outline.tag, "shape": outline.shape, "data_offsets": (start, end)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > MAX_HEADER_BYTES:
        raise ValueError(f"header of {len(text)} bytes for {len(outlines)} tensors; the limit is {MAX_HEADER_BYTES}")
    return len(text).to_bytes(8, "little") + text


def unpack(buffer: bytes | memoryview) -> tuple[dict[str, Entry], dict[str, str]]:
    """Return entries (views into `buffer`) and metadata; raises ProtocolError on anything malformed."""
    view = memoryview(buffer).cast("B")
    text, body = _header(view)
    layout = (_cached_layout if len(text) <= _CACHED_BYTES else _layout)(text, len(body))
    spans = layout.spans.items()
    entries = {name: Entry(tag=tag, shape=shape, data=body[start:end]) for name, (tag, shape, start, end) in spans}
    return entries, dict(layout.metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """A parsed header, checked against the size of its body: tag, shape, start and end of every tensor."""

    spans: Mapping[str, tuple[str, tuple[int, ...], int, int]]
    metadata: Mapping[str, str]


def _layout(text: bytes, body_bytes: int) -> _Layout:
    header = parse_object(text, "container header")
    metadata = header.pop(METADATA, {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise ProtocolError("container metadata: expected a mapping of strings to strings")
    spans: dict[str, tuple[str, tuple[int, ...], int, int]] = {}
    for name, raw in header.items():
        tag, shape, start, end = spans[name] = _described(name, raw)
        if end > body_bytes or end - start != math.prod(shape) * TAG_BYTES[tag]:
            raise ProtocolError(
                f"tensor {name[:80]!r}: {tag} {list(shape)} needs {math.prod(shape) * TAG_BYTES[tag]} bytes, but its "
                f"offsets [{start}, {end}) lie in a body of {body_bytes}; the container is cut off or damaged"
            )
    _check_cover([(start, end) for _, _, start, end in spans.values()], body_bytes)
    return _Layout(spans=spans, metadata=metadata)


# Updates of equal shapes have equal headers. Large headers are not cached, because any peer may send them.
_cached_layout = lru_cache(_CACHED_LAYOUTS)(_layout)


def checked_shape(value: object, name: str) -> tuple[int, ...]:
    """Return `value` as a shape; raises ProtocolError unless it is a short list of counts with a limited product."""
    if not isinstance(value, list) or len(value) > MAX_AXES or not all(_is_count(size) for size in value):
        raise ProtocolError(f"tensor {name[:80]!r}: expected a shape of at most {MAX_AXES} counts")
    if math.prod(max(size, 1) for size in value) > MAX_VALUES:
        raise ProtocolError(f"tensor {name[:80]!r}: expected a shape of at most {MAX_VALUES} values")
    return tuple(value)


def parse_object(text: bytes | str, what: str) -> dict[str, Any]:
    """Return the JSON object in `text`; raises ProtocolError naming `what` for anything else or a repeated key."""
    try:
        value = json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as cause:
        raise ProtocolError(f"{what} is not valid JSON ({str(cause)[:120]}); send it again") from None
    if not isinstance(value, dict):
        raise ProtocolError(f"{what}: expected a JSON object, got {type(value).__name__}")
    return value


def _header(view: memoryview) -> tuple[bytes, memoryview]:
    if len(view) < 8:
        raise ProtocolError(f"container: expected at least 8 bytes, got {len(view)}; it is cut off")
    size = int.from_bytes(view[:8], "little")
    if size > min(len(view) - 8, MAX_HEADER_BYTES):
        raise ProtocolError(
            f"container of {len(view)} bytes announces a header of {size} (limit {MAX_HEADER_BYTES}); it is damaged"
        )
    return bytes(view[8 : 8 + size]), view[8 + size :]


def _described(name: str, raw: object) -> tuple[str, tuple[int, ...], int, int]:
    if not isinstance(raw, dict) or set(raw) != {"dtype", "shape", "data_offsets"}:
        raise ProtocolError(f"tensor {name[:80]!r}: expected dtype, shape and data_offsets")
    tag, offsets = raw["dtype"], raw["data_offsets"]
    if not isinstance(tag, str) or tag not in TAG_BYTES:
        raise ProtocolError(f"tensor {name[:80]!r}: expected a dtype of {', '.join(TAG_BYTES)}, got {str(tag)[:20]!r}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_count(offset) for offset in offsets):
        raise ProtocolError(f"tensor {name[:80]!r}: expected data_offsets of two counts")
    start, end = offsets
    if start > end:
        raise ProtocolError(f"tensor {name[:80]!r}: its data ends before it starts")
    return tag, checked_shape(raw["shape"], name), start, end


def _check_cover(spans: list[tuple[int, int]], size: int) -> None:
    position = 0
    for start, end in sorted(spans):
        if start != position:
            raise ProtocolError(f"container: tensors overlap or leave a gap at byte {min(position, start)} of the body")
        position = end
    if position != size:
        raise ProtocolError(f"container: {size - position} bytes follow the last tensor; expected none")


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 63


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key is repeated")
    return value
