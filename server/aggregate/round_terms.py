"""The facts that one round's updates, stacks and partials are verified against."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fedcore.core.contract.assignment import Assignment
from fedcore.core.contract.protocols import Aggregator
from fedcore.core.model.adapter import AdapterSpec, Tensors
from fedcore.storage.blobs.store import BlobStore


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTerms:
    """The terms of one round. An edge learns of devices and ranks bit by bit: later terms replace earlier ones.

    With `unassigned`, partials may hold devices without an assignment here. An edge needs that, because it does not
    know all devices below it; the root knows every device of the round.
    """

    round: int
    spec: AdapterSpec
    aggregator: Aggregator[Any]
    blobs: BlobStore  # that holds the uploads
    assignments: Mapping[str, Assignment]  # by device
    adapter: Tensors | None = None  # that devices fetch for the round; only bundling aggregators need it
    unassigned: bool = False

    @property
    def assigned_weight(self) -> int:
        """The sum of the weights of all assigned devices."""
        return sum(assignment.weight for assignment in self.assignments.values())

    def weight_of(self, devices: Iterable[str]) -> int:
        """Return the sum of the weights of those `devices` that have an assignment."""
        return sum(self.assignments[device].weight for device in devices if device in self.assignments)
