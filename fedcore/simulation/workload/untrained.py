"""A workload without training: losses from a curve, memory from the cost model, no tensors."""

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
    """Answers every group from `curve`; `progress` is the fleet's, in effective steps."""

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
        """Let a counted round move the fleet on."""
        if not closed.void:
            self._move([self._steps[device] for device in closed.accepted])
        self._steps.clear()

    def recover(self, last: RoundResult) -> None:
        """Move the fleet to where the counted rounds have left it."""
        for _, void, rows in self.history():
            if not void:
                accepted = [row for row in rows if row["status"] == Status.ACCEPTED]
                self._move([effective(row["steps"], row["rank"] / self.largest_rank) for row in accepted])

    def close(self) -> None:
        """Nothing to let go of."""

    def _move(self, steps: Sequence[float]) -> None:
        self.progress += sum(steps) / len(steps) if steps else 0.0

    def _metrics(self, part: Part) -> TrainingMetrics:
        asked, geometry = part.assignment, self.cost.spec.geometry
        counts = asked.keep_set.counts
        sparsity = geometry.sparsity(counts)
        share, effort = asked.arm.rank / self.largest_rank, asked.local_steps / self.usual_steps
        luck = _NORMAL.inv_cdf(uniform(self.seed, "loss", asked.round, part.device))
        before = self.curve.level(self.progress, sparsity)
        after = max(0.0, before - self.curve.drop(self.progress, sparsity, share, luck, effort=effort))
        self._steps[part.device] = effective(asked.local_steps, share)
        return TrainingMetrics(
            loss_before=before,
            loss_after=after,
            train_loss=(before + after) / 2,
            peak_memory_mb=self.cost.memory_mb(counts, asked.arm.rank, asked.training.trains),
            adapter_importance=max(0.0, before - after) * share,
        )
