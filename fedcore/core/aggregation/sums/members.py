"""The updates that a partial aggregate holds: the rule that none is counted twice, and the weight limit."""

from dataclasses import dataclass, field

from fedcore.core.aggregation.sums.fixed_point import MAX_TOTAL_WEIGHT
from fedcore.core.contract.update import Update
from fedcore.core.contract.update_stack import UpdateStack
from fedcore.core.errors import UpdateRejected

UpdateKey = tuple[str, int]  # (device, round)


@dataclass(frozen=True, slots=True, kw_only=True)
class Members:
    """The keys folded so far and the sum of their integer weights, at most 2**24."""

    keys: frozenset[UpdateKey] = field(default_factory=frozenset)
    weight: int = 0

    def with_update(self, update: Update) -> "Members":
        """Return the members after `update`; raises UpdateRejected on a known key or a weight out of range."""
        if update.key in self.keys:
            raise UpdateRejected(
                f"update of {update.device} for round {update.round} is already folded; drop the second copy"
            )
        if update.weight < 1:
            raise UpdateRejected(f"update of {update.device}: expected a weight of at least 1, got {update.weight}")
        return Members(keys=self.keys | {update.key}, weight=_within_limit(self.weight + update.weight))

    def with_stack(self, stack: UpdateStack) -> "Members":
        """Return the members after all of `stack`'s updates; raises like `with_update`, naming the first that fails."""
        keys = frozenset((device, stack.round) for device in stack.devices)
        if len(keys) < len(stack) or not keys.isdisjoint(self.keys) or min(stack.weights, default=1) < 1:
            members = self
            for index in range(len(stack)):
                members = members.with_update(stack.update(index))
        return Members(keys=self.keys | keys, weight=_within_limit(self.weight + sum(stack.weights)))

    def with_members(self, other: "Members") -> "Members":
        """Return both sides' members; raises UpdateRejected naming the common keys."""
        overlap = sorted(self.keys & other.keys)
        if overlap:
            names = ", ".join(f"{device} (round {round_})" for device, round_ in overlap)
            raise UpdateRejected(f"partials overlap: {names} counted on both sides; refold one side without them")
        return Members(keys=self.keys | other.keys, weight=_within_limit(self.weight + other.weight))


def _within_limit(weight: int) -> int:
    if weight > MAX_TOTAL_WEIGHT:
        raise UpdateRejected(
            f"expected a total weight of at most {MAX_TOTAL_WEIGHT}, got {weight}; use smaller weights or cohorts"
        )
    return weight
