"""The rounds on Flower's simulation engine: PYTHON -m benchmarks.simulation.flower FOLDER

Its Ray backend with one worker for every core, and its FedAvg over all clients.
"""

import os
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from flwr.simulation import run_simulation

from benchmarks.simulation.flower_client import FOLDER, app
from benchmarks.simulation.learners import make_learner
from benchmarks.simulation.task import Record, read_case

CORES = 2


def run(folder: Path) -> None:
    """Carry out the case."""
    case, learner = read_case(folder), make_learner(folder)
    record = Record(folder, "flower")
    server = ServerApp()

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        def ended(server_round: int, arrays: ArrayRecord) -> MetricRecord | None:
            if server_round > 0:
                record.round_ended()
            return None

        strategy = FedAvg(
            fraction_train=1.0, fraction_evaluate=0.0, min_train_nodes=case.clients, min_available_nodes=case.clients
        )
        start = ArrayRecord({name: parameter.detach() for name, parameter in learner.trainable().items()})
        result = strategy.start(grid, start, num_rounds=case.rounds, evaluate_fn=ended)
        with torch.no_grad():
            for name, value in result.arrays.to_torch_state_dict().items():
                learner.trainable()[name].copy_(value)
        record.write(learner.tensors(), version=version("flwr"), ray=version("ray"))

    os.environ[FOLDER] = str(folder)
    ray: dict[str, Any] = {"num_cpus": CORES, "include_dashboard": False}
    backend: dict[str, Any] = {"client_resources": {"num_cpus": 1}, "init_args": ray}
    run_simulation(server, app, num_supernodes=case.clients, backend_config=backend)


if __name__ == "__main__":
    run(Path(sys.argv[1]))
