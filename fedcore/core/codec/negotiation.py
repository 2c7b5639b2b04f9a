"""Which codec a device is given: the configured one where it can encode all its parts, else one it surely can."""

from collections.abc import Collection
from functools import lru_cache

from fedcore.core.codec.grammar import PARTS, parts_of

KNOWN_GOOD = ("bf16+zstd", "identity")  # best first; the last is never asked for
FIRST_PARTS = ("identity", "bf16", "fp16", "zstd")  # what a device knows that does not say

_KNOWN = 64  # answers remembered: every device of every round asks for one of a few

__all__ = ["FIRST_PARTS", "KNOWN_GOOD", "PARTS", "agreed_codec"]


def agreed_codec(wanted: str, supported: Collection[str]) -> str:
    """Return `wanted` where a device that encodes the parts `supported` (none: those of the first version) can do it.

    Raises ConfigError where `wanted` is no codec.
    """
    return _agreed(wanted, frozenset(supported or FIRST_PARTS))


@lru_cache(_KNOWN)
def _agreed(wanted: str, known: frozenset[str]) -> str:
    return next((codec for codec in (wanted, *KNOWN_GOOD[:-1]) if parts_of(codec) <= known), KNOWN_GOOD[-1])
