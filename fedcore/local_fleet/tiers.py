"""Who sits where in a fleet with edges: their names, and whom everybody turns to, in which order.

Tiers count from 1, just below the coordinator; devices are one tier below the lowest edges.
"""

from collections.abc import Sequence

from fedcore.local_fleet.watch import COORDINATOR


def tier_names(edges: Sequence[int]) -> list[list[str]]:
    """Names of the edges, tier by tier from the top down: edge-1-0, edge-1-1, then edge-2-0, ..."""
    return [[f"edge-{tier}-{index}" for index in range(number)] for tier, number in enumerate(edges, start=1)]


def parents(edges: Sequence[int], tier: int, index: int) -> tuple[str, ...]:
    """Whom number `index` of a tier turns to, best first.

    Its own parent, that one's siblings, then the tier above them in the same way, at last the coordinator: whoever
    dies, the rest spreads over those next to it.
    """
    found: list[str] = []
    for names in reversed(tier_names(edges[: tier - 1])):
        index %= len(names)
        found += [*names[index:], *names[:index]]
    return (*found, COORDINATOR)
