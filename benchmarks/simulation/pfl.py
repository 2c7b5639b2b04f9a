"""The rounds on pfl: PYTHON -m benchmarks.simulation.pfl FOLDER

Its own FederatedAveraging on its SimulatedBackend, one client after the other in a model kept warm, as in its
benchmarks.
"""

import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from pfl.aggregate.simulate import SimulatedBackend
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.hyperparam.base import NNTrainHyperParams
from pfl.metrics import Metrics
from pfl.model.pytorch import PyTorchModel

from benchmarks.simulation.learners import make_learner
from benchmarks.simulation.task import Recipe, Record, read_case

NO_EVALUATION = 1 << 30


class RoundTimes(TrainingProcessCallback):
    """Notes when each central iteration ends."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: PyTorchModel, *, central_iteration: int
    ) -> tuple[bool, Metrics]:
        """Never asks to stop."""
        self._record.round_ended()
        return False, Metrics()


def local_optimizer(recipe: Recipe) -> Callable[..., torch.optim.Optimizer]:
    """Return what makes a client's optimizer out of parameters and `lr`."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD
    return partial(torch.optim.AdamW, weight_decay=recipe.weight_decay)


def run(folder: Path) -> None:
    """Carry out the case."""
    case, learner = read_case(folder), make_learner(folder)
    # It evaluates every client of its first iteration before and after training; that round is not counted.
    learner.module.metrics = lambda *batch: {}  # type: ignore[assignment]
    users = [Dataset(raw_data=learner.rows(client), user_id=str(client)) for client in range(case.clients)]
    order = iter(range(case.clients * (case.rounds + 1)))
    data = FederatedDataset(lambda user: users[user], lambda: next(order) % case.clients)
    trained = learner.trainable()
    model = PyTorchModel(learner.module, local_optimizer(case.recipe), torch.optim.SGD(trained.values(), lr=1.0))
    record = Record(folder, "pfl")
    FederatedAveraging().run(
        algorithm_params=NNAlgorithmParams(
            central_num_iterations=case.rounds,
            evaluation_frequency=NO_EVALUATION,
            train_cohort_size=case.clients,
            val_cohort_size=None,
        ),
        backend=SimulatedBackend(training_data=data, val_data=data),
        model=model,
        model_train_params=NNTrainHyperParams(
            local_batch_size=case.recipe.batch_size,
            local_num_epochs=case.recipe.epochs,
            local_learning_rate=case.recipe.learning_rate,
            local_max_grad_norm=case.recipe.max_gradient_norm,
        ),
        callbacks=[RoundTimes(record)],
        send_metrics_to_platform=False,
    )
    record.write(learner.tensors(), version=version("pfl"))


if __name__ == "__main__":
    run(Path(sys.argv[1]))
