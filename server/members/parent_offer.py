"""Which parent a newcomer should try first: one that is not crowded and has to fetch the fewest bytes for it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CROWD = 4  # devices


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentOffer:
    """A parent newcomers can be sent to: where it is, which blobs it can serve, how many devices it has."""

    address: str  # HOST:PORT
    holds: frozenset[str] = frozenset()  # blob ids
    devices: int = 0


def rank_parents(needs: Mapping[str, int], parents: Sequence[ParentOffer]) -> tuple[str, ...]:
    """Return the parents' addresses, best first, each once.

    `needs` are the bytes of every blob the newcomer will ask for, by blob id. The fewest bytes missing at the parent
    come first, then the fewest devices, then the address: the order of `parents` does not matter. Parents with more
    than CROWD devices above twice those of the emptiest come after all others: otherwise a parent that has a blob would
    get every newcomer, and a parent that has none would get no newcomer, for ever.
    """
    crowded = 2 * min((parent.devices for parent in parents), default=0) + CROWD

    def cost(parent: ParentOffer) -> tuple[bool, int, int, str]:
        missing = sum(size for blob_id, size in needs.items() if blob_id not in parent.holds)
        return parent.devices > crowded, missing, parent.devices, parent.address

    return tuple(dict.fromkeys(parent.address for parent in sorted(parents, key=cost)))
