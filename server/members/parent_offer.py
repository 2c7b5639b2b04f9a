"""Rank the parents for a newcomer: first those that are not crowded and must fetch the fewest bytes for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CROWD = 4  # devices


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentOffer:
    """A parent for newcomers: its address, the blobs that it can serve, and its number of devices."""

    address: str  # HOST:PORT
    holds: frozenset[str] = frozenset()  # blob ids
    devices: int = 0


def rank_parents(needs: Mapping[str, int], parents: Sequence[ParentOffer]) -> tuple[str, ...]:
    """Return the parents' addresses, best first, without duplicates.

    `needs`: bytes of every blob that the newcomer will request, by blob id. Parents are ordered by the bytes they miss,
    then by devices, then by address: the order of `parents` does not matter. A parent with more than CROWD devices
    above twice those of the emptiest parent comes after all others. Otherwise a parent that has the blobs would get
    every newcomer, and a parent without them would never get one.
    """
    crowded = 2 * min((parent.devices for parent in parents), default=0) + CROWD

    def cost(parent: ParentOffer) -> tuple[bool, int, int, str]:
        missing = sum(size for blob_id, size in needs.items() if blob_id not in parent.holds)
        return parent.devices > crowded, missing, parent.devices, parent.address

    return tuple(dict.fromkeys(parent.address for parent in sorted(parents, key=cost)))
