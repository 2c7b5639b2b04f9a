"""Real training of virtual devices, batched or one by one."""

from dataclasses import dataclass

from client.training_state import TrainingState
from fedcore.adapter import AdapterSpec, restrict
from fedcore.rounds.result import RoundResult
from simulation.fleet import VirtualFleet
from simulation.pool import TrainerPool
from simulation.states import DeviceStates
from simulation.trainer import Order, Task
from simulation.workload import Figures, Group, Lesson


@dataclass(slots=True, kw_only=True)
class TrainingWorkload:
    """Trains the base model on every device's own rows. `spec` is the global adapter's."""

    spec: AdapterSpec
    fleet: VirtualFleet
    pool: TrainerPool
    states: DeviceStates
    batched: bool

    def train(self, group: Group) -> Lesson:
        """Train a group; what its devices would keep is prepared until the round has closed."""
        asked = group.assignment
        before = restrict(self.spec, group.adapter, rank=asked.arm.rank, keep_set=asked.keep_set)
        tasks = tuple(
            Task(work=part.work, rows=self.fleet.devices[part.device].rows, state=self.states.load(part.device))
            for part in group.parts
        )
        answer = self.pool.run(Order(keep_set=asked.keep_set, before=before, tasks=tasks, batched=self.batched))
        self._prepare(group, answer.figures, answer.states)
        return Lesson(figures=answer.figures, increments=answer.increments)

    def settle(self, closed: RoundResult) -> None:
        """Commit what accepted devices keep."""
        self.states.settle(closed)

    def close(self) -> None:
        """End the training processes."""
        self.pool.close()

    def _prepare(self, group: Group, figures: tuple[Figures | str, ...], states: tuple[TrainingState, ...]) -> None:
        for part, told, state in zip(group.parts, figures, states, strict=True):
            if isinstance(told, Figures):
                self.states.prepare(part.device, state)
