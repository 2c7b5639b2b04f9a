"""A workload without training: losses from a curve, memory from the cost model, no tensors.

The fleet's progress grows by the mean effective steps of every counted round; it follows from the ledger alone, so a
resumed run computes it anew.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist

from fedcore.core.contract.outcome import Status, TrainingMetrics
from fedcore.core.contract.protocols import Json
from fedcore.core.rounds.result import RoundResult
from fedcore.core.seeds import uniform
from fedcore.simulation.workload.loss_curve import LossCurve, effective
from fedcore.simulation.workload.workload import Group, GroupResult, Part
from fedcore.strategies.policy.cost import RoundCost

_NORMAL = NormalDist()


@dataclass(slots=True, kw_only=True)
class CurveWorkload:
    """Answers every group from `curve`; `progress` is that of the fleet, in effective steps."""

    curve: LossCurve
    cost: RoundCost
    largest_rank: int
    usual_steps: int  # local steps the curve was fitted with
    seed: int
    history: Callable[[], Iterable[tuple[int, bool, Sequence[Json]]]]  # `Ledger.iter_outcomes`
    progress: float = 0.0
    _steps: dict[str, float] = field(default_factory=dict)  # effective, of the open round's devices

    def train(self, groups: Sequence[Group]) -> Iterator[GroupResult]:
        """Yield the groups' losses; nothing is trained."""
        for group in groups:
            yield GroupResult(metrics=tuple(map(self._metrics, group.parts)), increments=None)

    def settle(self, closed: RoundResult) -> None:
        """Add a counted round to the fleet's progress."""
        if not closed.void:
            self._move([self._steps[device] for device in closed.accepted])
        self._steps.clear()

    def recover(self, last: RoundResult) -> None:
        """Compute the progress anew from the counted rounds of the ledger."""
        for _, void, rows in self.history():
            if not void:
                accepted = [row for row in rows if row["status"] == Status.ACCEPTED]
                self._move([effective(row["steps"], row["rank"] / self.largest_rank) for row in accepted])

    def close(self) -> None:
        """Do nothing: there are no processes or files."""

    def _move(self, steps: Sequence[float]) -> None:
        self.progress += sum(steps) / len(steps) if steps else 0.0

    def _metrics(self, part: Part) -> TrainingMetrics:
        assignment, geometry = part.assignment, self.cost.spec.geometry
        counts = assignment.keep_set.counts
        sparsity = geometry.sparsity(counts)
        share, effort = assignment.arm.rank / self.largest_rank, assignment.local_steps / self.usual_steps
        deviate = _NORMAL.inv_cdf(uniform(self.seed, "loss", assignment.round, part.device))
        cost = self.cost.in_form(assignment.training.quantize)
        memory_mb = cost.memory_mb(counts, assignment.arm.rank, assignment.training.trains)
        before = self.curve.level(self.progress, sparsity)
        after = max(0.0, before - self.curve.drop(self.progress, sparsity, share, deviate, effort=effort))
        self._steps[part.device] = effective(assignment.local_steps, share)
        return TrainingMetrics(
            loss_before=before,
            loss_after=after,
            train_loss=(before + after) / 2,
            peak_memory_mb=memory_mb,
            adapter_importance=max(0.0, before - after) * share,
        )
