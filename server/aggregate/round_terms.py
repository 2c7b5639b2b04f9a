"""What one round's updates, stacks and partials are held against: facts, fixed before anything of it is verified."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fedcore.core.contract.assignment import Assignment
from fedcore.core.contract.protocols import Aggregator
from fedcore.core.model.adapter import AdapterSpec, Tensors
from fedcore.storage.blobs.store import BlobStore


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTerms:
    """The terms of one round. An edge hears of devices and ranks bit by bit: its later terms replace the earlier ones.

    With `unassigned`, partials may hold devices without an assignment here: so it is at an edge, which does not know
    all devices below it. The root knows every device of the round.
    """

    round: int
    spec: AdapterSpec
    aggregator: Aggregator[Any]
    blobs: BlobStore  # where uploads lie
    assignments: Mapping[str, Assignment]  # by device
    adapter: Tensors | None = None  # handed out for the round; only bundling aggregators need it
    unassigned: bool = False

    @property
    def assigned_weight(self) -> int:
        """The sum of the weights of all assigned devices."""
        return sum(assignment.weight for assignment in self.assignments.values())

    def weight_of(self, devices: Iterable[str]) -> int:
        """Return the sum of the weights of those `devices` that have an assignment."""
        return sum(self.assignments[device].weight for device in devices if device in self.assignments)
