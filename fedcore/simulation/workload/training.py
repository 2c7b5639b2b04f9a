"""The workload that really trains: one order per group, batched or one by one, in a pool of processes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from fedcore.core.contract.outcome import TrainingMetrics
from fedcore.core.model.adapter import AdapterSpec, restrict
from fedcore.core.model.base_shift import shift_of
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.rounds.result import RoundResult
from fedcore.simulation.fleet.fleet import VirtualFleet
from fedcore.simulation.workload.device_states import DeviceStates
from fedcore.simulation.workload.pool import TrainerPool
from fedcore.simulation.workload.trainer import Answer, Order, Task
from fedcore.simulation.workload.workload import Group, GroupResult


@dataclass(slots=True, kw_only=True)
class TrainingWorkload:
    """Trains the base model on every device's own rows. `spec` is the global adapter's."""

    spec: AdapterSpec
    fleet: VirtualFleet
    pool: TrainerPool
    states: DeviceStates
    batched: bool

    def train(self, groups: Sequence[Group]) -> Iterator[GroupResult]:
        """Train group by group, and prepare the states that the devices keep if their updates are accepted."""
        answers = self.pool.run([self._order(group) for group in groups])
        for group, answer in zip(groups, answers, strict=True):
            self._prepare(group, answer)
            yield GroupResult(metrics=answer.metrics, scores=answer.scores, increments=answer.increments)

    def _order(self, group: Group) -> Order:
        assignment = group.assignment
        before = restrict(self.spec, group.adapter, rank=assignment.arm.rank, keep_set=assignment.keep_set)
        tasks = tuple(
            Task(
                assignment=part.wire_assignment,
                rows=self.fleet.devices[part.device].rows,
                state=self.states.load(part.device),
            )
            for part in group.parts
        )
        shift = shift_of(group.adapter)
        dense = None
        if assignment.training.distillation is not None:
            full = KeepSet.full(self.spec.geometry)
            dense = restrict(self.spec, group.adapter, rank=assignment.arm.rank, keep_set=full)
        return Order(
            keep_set=assignment.keep_set, before=before, shift=shift, tasks=tasks, batched=self.batched, dense=dense
        )

    def settle(self, closed: RoundResult) -> None:
        """Commit the states of accepted devices."""
        self.states.settle(closed)

    def recover(self, last: RoundResult) -> None:
        """Commit or drop the states that an earlier process had prepared."""
        self.states.recover(last)

    def close(self) -> None:
        """End the training processes, and let go of the models."""
        self.pool.close()

    def _prepare(self, group: Group, answer: Answer) -> None:
        for part, metrics, state in zip(group.parts, answer.metrics, answer.states, strict=True):
            if isinstance(metrics, TrainingMetrics):
                self.states.prepare(part.device, group.round, state)
