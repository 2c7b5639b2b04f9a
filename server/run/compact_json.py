"""JSON as the event log, the ledger and the summary hold it: compact UTF-8, floats that come back as the same bits.

orjson writes a record of a device's round about ten times as fast as the standard library, and there are several for
every device and round. It does not read here: integers beyond 64 bits would come back as floats. Numbers that JSON
lacks (NaN, infinity), which other readers than Python's refuse, become null.
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import orjson

_OPTIONS = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME  # values are JSON's own, or an error


def compact(value: Any) -> bytes:
    """Return `value` in one line; raises TypeError for what is no JSON value."""
    try:
        return orjson.dumps(value, option=_OPTIONS)
    except TypeError:  # a NumPy number, an integer beyond 64 bits, another mapping than a dict: rare
        return json.dumps(_plain(value), separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def exact(value: Any) -> bytes:
    """Return `value` in one line from which `json.loads` gives it back, also where it holds NaN or infinity.

    Only Python's own reader knows how those are spelled here; raises like `compact`.
    """
    text = compact(value)
    if value is None or b"null" not in text:  # nothing became null
        return text
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return b"{" + b",".join(compact(key) + b":" + exact(each) for key, each in value.items()) + b"}"
    if isinstance(value, list | tuple):
        return b"[" + b",".join(exact(each) for each in value) + b"]"
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
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
