"""JSON for the event log, the ledger and the summary: compact UTF-8, with floats that are read back bit by bit.

orjson writes a record of a device's round about ten times as fast as the standard library, and there are several
records for every device and round. Reading uses the standard library, because orjson would read integers beyond 64 bits
as floats. Numbers that JSON lacks (NaN, infinity) become null: readers other than Python's refuse them.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import orjson

_OPTIONS = (
    orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
)  # only JSON values; others raise TypeError


def compact(value: Any) -> bytes:
    """Return `value` in one line; raises TypeError if it is no JSON value."""
    try:
        return orjson.dumps(value, option=_OPTIONS)
    except TypeError:  # a NumPy number, an integer beyond 64 bits, another mapping than a dict: rare
        return json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def exact(value: Any) -> bytes:
    """Return `value` in one line that `json.loads` reads back as the same value, even with NaN or infinity in it.

    Only Python's own reader understands NaN and infinity in JSON; raises like `compact`.
    """
    text = compact(value)
    if value is None or b"null" not in text:  # nothing became null
        return text
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return b"{" + b",".join(compact(key) + b":" + exact(item) for key, item in value.items()) + b"}"
    if isinstance(value, list | tuple):
        return b"[" + b",".join(exact(item) for item in value) + b"]"
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def indented(value: Any) -> bytes:
    """Return `value` for people, two spaces a level and a newline at the end; raises like `compact`."""
    try:
        return orjson.dumps(value, option=_OPTIONS | orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        return (json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
