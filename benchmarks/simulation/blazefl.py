"""The rounds on BlazeFL: PYTHON -m benchmarks.simulation.blazefl FOLDER

A server handler and a client trainer on its protocols, as its `contrib.fedavg` has them, one client after the other
in a model kept warm. Only trainable parameters travel. Its process pools move parameters through files or shared memory
and take longer on tasks as small as these.
"""

import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from blazefl.core import BaseClientTrainer, BaseServerHandler

from benchmarks.simulation.learners import make_learner
from benchmarks.simulation.task import Case, Learner, Record, read_case, train_client


@dataclass
class Package:
    """What a client sends: its parameters as one vector, and its weight."""

    client: int
    parameters: torch.Tensor
    rows: int


class Server(BaseServerHandler[Package, torch.Tensor]):
    """FedAvg over the whole cohort."""

    def __init__(self, case: Case, start: torch.Tensor) -> None:
        self._case, self.parameters = case, start
        self._buffer: list[Package] = []
        self._rounds = 0

    def downlink_package(self) -> torch.Tensor:
        """The global parameters."""
        return self.parameters

    def sample_clients(self) -> list[int]:
        """All clients."""
        return list(range(self._case.clients))

    def if_stop(self) -> bool:
        """Whether every round is over."""
        return self._rounds >= self._case.rounds

    def load(self, payload: Package) -> bool:
        """Take one client's package; the last one closes the round."""
        self._buffer.append(payload)
        if len(self._buffer) < self._case.clients:
            return False
        self.global_update(self._buffer)
        self._buffer, self._rounds = [], self._rounds + 1
        return True

    def global_update(self, buffer: list[Package]) -> None:
        """The mean, weighted by rows."""
        total = sum(package.rows for package in buffer)
        mean = torch.zeros_like(self.parameters)
        for package in buffer:
            mean.add_(package.parameters, alpha=package.rows / total)
        self.parameters = mean


class Trainer(BaseClientTrainer[Package, torch.Tensor]):
    """Trains one client after the other."""

    def __init__(self, case: Case, learner: Learner) -> None:
        self._case, self._learner = case, learner
        self._trained = list(learner.trainable().values())
        self._cache: list[Package] = []

    def uplink_package(self) -> list[Package]:
        """What was trained since the last call."""
        packages, self._cache = self._cache, []
        return packages

    def local_process(self, payload: torch.Tensor, cid_list: list[int]) -> None:
        """Train these clients from the global parameters."""
        for client in cid_list:
            torch.nn.utils.vector_to_parameters(payload.clone(), self._trained)
            train_client(self._learner, self._case.recipe, client)
            vector = torch.nn.utils.parameters_to_vector(self._trained).detach()
            self._cache.append(Package(client, vector, len(self._learner.rows(client)[0])))


def run(folder: Path) -> None:
    """Carry out the case."""
    case, learner = read_case(folder), make_learner(folder)
    trained = list(learner.trainable().values())
    server = Server(case, torch.nn.utils.parameters_to_vector(trained).detach().clone())
    trainer = Trainer(case, learner)
    record = Record(folder, "blazefl")
    while not server.if_stop():
        trainer.local_process(server.downlink_package(), server.sample_clients())
        for package in trainer.uplink_package():
            server.load(package)
        record.round_ended()
    torch.nn.utils.vector_to_parameters(server.parameters, trained)
    record.write(learner.tensors(), version=version("blazefl"))


if __name__ == "__main__":
    run(Path(sys.argv[1]))
