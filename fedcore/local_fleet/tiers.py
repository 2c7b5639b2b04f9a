"""The tiers of a fleet with edges: the edges' names, and the parents of every edge and device in order of preference.

Tier 1 is just below the coordinator; devices are one tier below the lowest edges.
"""

from collections.abc import Sequence

from fedcore.local_fleet.watch import COORDINATOR


def tier_names(edges: Sequence[int]) -> list[list[str]]:
    """Return the names of the edges, tier by tier from the top down: edge-1-0, edge-1-1, then edge-2-0, ..."""
    return [[f"edge-{tier}-{index}" for index in range(number)] for tier, number in enumerate(edges, start=1)]


def parents(edges: Sequence[int], tier: int, index: int) -> tuple[str, ...]:
    """Return the parents of number `index` of a tier, best first.

    First its own parent, then that edge's siblings, then the tier above them in the same way, at last the coordinator.
    If an edge dies, its children therefore spread over the edges next to it.
    """
    names_in_order: list[str] = []
    for names in reversed(tier_names(edges[: tier - 1])):
        index %= len(names)
        names_in_order += [*names[index:], *names[:index]]
    return (*names_in_order, COORDINATOR)
