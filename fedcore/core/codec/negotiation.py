"""The codec that a device gets: the configured one if it can encode all its parts, else one that it surely can."""

from collections.abc import Collection
from functools import lru_cache

from fedcore.core.codec.grammar import PARTS, parts_of

KNOWN_GOOD = ("bf16+zstd", "identity")  # best first; every device can encode the last
FIRST_PARTS = ("identity", "bf16", "fp16", "zstd")  # the parts of a device that reports none

_CACHED = 64  # answers: all devices of all rounds ask for the same few

__all__ = ["FIRST_PARTS", "KNOWN_GOOD", "PARTS", "agreed_codec"]


def agreed_codec(preferred: str, supported: Collection[str]) -> str:
    """Return `preferred` if a device with the parts `supported` can encode it, else the best codec that it can encode.

    An empty `supported` means the parts of the first version.

    Raises ConfigError where `preferred` is no codec.
    """
    return _agreed(preferred, frozenset(supported or FIRST_PARTS))


@lru_cache(_CACHED)
def _agreed(preferred: str, supported: frozenset[str]) -> str:
    return next((codec for codec in (preferred, *KNOWN_GOOD[:-1]) if parts_of(codec) <= supported), KNOWN_GOOD[-1])
