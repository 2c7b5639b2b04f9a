"""The kinds of groups that a run may remove: `strategy.remove`."""

from collections.abc import Collection

HEADS, CHANNELS, LAYERS = KINDS = ("heads", "channels", "layers")
WIDTH = (HEADS, CHANNELS)  # the default: every layer stays, and becomes narrower


def by_benefit(remove: Collection[str]) -> bool:
    """Whether these kinds are removed by measured benefit: all choices but heads and channels, which share a ratio."""
    return set(remove) != set(WIDTH)
