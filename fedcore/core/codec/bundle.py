"""A container of described tensors: all descriptions in one compressed text, all bytes one after the other.

In a plain safetensors header, name, offsets and description take 160 bytes for each tensor. That is a twentieth of an
update of rank 4 in bfloat16, and half of the same update with a twentieth of its values kept. Compressed together they
take seven bytes a tensor. The result is still a safetensors file, of two U8 tensors: "about", a zstd frame of the JSON
object

    {"NAME": {"bytes": 4711, ...}, ...}

and "tensors", which holds the given number of bytes for each of them, in the same order.
"""

import json
from collections.abc import Mapping
from typing import Any

from fedcore.core.codec.container import MAX_HEADER_BYTES, Entry, Outline, opening, parse_object
from fedcore.core.codec.frames import declared_bytes, opened, text_frame
from fedcore.core.errors import ProtocolError

ABOUT, BODY = "about", "tensors"
_SIZE = "bytes"


def pack_bundle(parts: Mapping[str, tuple[bytes, Mapping[str, Any]]], metadata: Mapping[str, str]) -> bytes:
    """Return the container of (bytes, description) by name; equal arguments give equal bytes, in any order.

    Raises ValueError where the descriptions take more than MAX_HEADER_BYTES.
    """
    in_order = sorted(parts.items())
    described = {name: {_SIZE: len(data), **about} for name, (data, about) in in_order}
    text = json.dumps(described, separators=(",", ":")).encode()
    if len(text) > MAX_HEADER_BYTES:
        raise ValueError(f"descriptions of {len(text)} bytes for {len(parts)} tensors; the limit is {MAX_HEADER_BYTES}")
    about = text_frame(text)
    outlines = {
        ABOUT: Outline(tag="U8", shape=(len(about),)),
        BODY: Outline(tag="U8", shape=(sum(len(data) for data, _ in parts.values()),)),
    }
    return b"".join([opening(outlines, metadata), about, *(data for _, (data, _) in in_order)])


def unpack_bundle(entries: Mapping[str, Entry]) -> dict[str, tuple[memoryview, dict[str, Any]]]:
    """Return (view of the bytes, description) by name; raises ProtocolError on anything malformed."""
    if set(entries) != {ABOUT, BODY} or any(entry.tag != "U8" for entry in entries.values()):
        raise ProtocolError(f"bundle: expected the U8 tensors {ABOUT!r} and {BODY!r}")
    frame, body = entries[ABOUT].data, entries[BODY].data
    size = declared_bytes(frame)
    if size > MAX_HEADER_BYTES:
        raise ProtocolError(f"bundle: descriptions of {size} bytes are announced; the limit is {MAX_HEADER_BYTES}")
    parts: dict[str, tuple[memoryview, dict[str, Any]]] = {}
    start = 0
    for name, about in parse_object(opened(frame, size), "bundle").items():
        count = about.pop(_SIZE, None) if isinstance(about, dict) else None
        if type(count) is not int or not 0 <= count <= len(body) - start:
            raise ProtocolError(f"bundle: tensor {name[:80]!r} has {str(count)[:20]} of {len(body) - start} bytes left")
        parts[name] = body[start : start + count], about
        start += count
    if start != len(body):
        raise ProtocolError(f"bundle: {len(body) - start} bytes follow the last tensor; expected none")
    return parts
