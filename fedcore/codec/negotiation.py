"""Which codec a device is given: the configured one where it can encode all its parts, else one it surely can."""

from collections.abc import Collection

from fedcore.codec.grammar import PARTS, parts_of

KNOWN_GOOD = ("bf16+zstd", "identity")  # best first; the last is never asked for
FIRST_PARTS = ("identity", "bf16", "fp16", "zstd")  # what a device knows that does not say

__all__ = ["FIRST_PARTS", "KNOWN_GOOD", "PARTS", "agreed_codec"]


def agreed_codec(wanted: str, supported: Collection[str]) -> str:
    """Return `wanted` where a device that encodes the parts `supported` (none: those of the first version) can do it.

    Raises ConfigError where `wanted` is no codec.
    """
    known = frozenset(supported or FIRST_PARTS)
    return next((codec for codec in (wanted, *KNOWN_GOOD[:-1]) if parts_of(codec) <= known), KNOWN_GOOD[-1])
