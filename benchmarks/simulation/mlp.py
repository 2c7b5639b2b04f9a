"""The small task: an MLP 64-128-10, thirty rows per client, three steps of SGD on ten rows each."""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.simulation.task import Arrays, Batch, Recipe

INPUTS, HIDDEN, CLASSES = 64, 128, 10
ROWS = 30
RECIPE = Recipe(batch_size=10, epochs=1, learning_rate=0.1, optimizer="sgd")
SHAPES = {
    "head.0.bias": (HIDDEN,),
    "head.0.weight": (HIDDEN, INPUTS),
    "head.1.bias": (CLASSES,),
    "head.1.weight": (CLASSES, HIDDEN),
}


def make_data(clients: int, seed: int) -> dict[str, NDArray[np.generic]]:
    """Return x (clients, rows, 64) float32, y (clients, rows) int64, and the first parameters.

    Labels are the largest of ten noisy linear scores, so that there is something to learn.
    """
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((clients, ROWS, INPUTS), dtype=np.float32)
    truth = rng.standard_normal((INPUTS, CLASSES), dtype=np.float32)
    scores = x @ truth + rng.standard_normal((clients, ROWS, CLASSES), dtype=np.float32)
    first = {
        name: (rng.standard_normal(shape, dtype=np.float32) / np.float32(np.sqrt(shape[-1])))
        if len(shape) > 1
        else np.zeros(shape, dtype=np.float32)
        for name, shape in SHAPES.items()
    }
    return {"x": x, "y": scores.argmax(axis=-1), **first}


class MlpModule(torch.nn.Module):
    """Two linear layers with a ReLU between, and the mean cross-entropy."""

    def __init__(self) -> None:
        super().__init__()
        self.first = torch.nn.Linear(INPUTS, HIDDEN)
        self.second = torch.nn.Linear(HIDDEN, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (rows, classes) of x (rows, inputs)."""
        logits: torch.Tensor = self.second(torch.relu(self.first(x)))
        return logits

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy of one batch."""
        return torch.nn.functional.cross_entropy(self(x), y)


class MlpLearner:
    """The task out of its folder."""

    def __init__(self, folder: Path) -> None:
        with np.load(folder / "task.npz") as stored:
            self._x, self._y = torch.from_numpy(stored["x"]), torch.from_numpy(stored["y"])
            first = {name: torch.from_numpy(stored[name]) for name in SHAPES}
        self._module = MlpModule()
        self.module: torch.nn.Module = self._module
        with torch.no_grad():
            for name, parameter in self.trainable().items():
                parameter.copy_(first[name])

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """All parameters."""
        layers = {"head.0": self._module.first, "head.1": self._module.second}
        return {f"{name}.{part}": getattr(layer, part) for name, layer in layers.items() for part in ("bias", "weight")}

    def rows(self, client: int) -> Batch:
        """A client's (x, y)."""
        return self._x[client], self._y[client]

    def tensors(self) -> Arrays:
        """All parameters as arrays."""
        return {name: parameter.detach().numpy().copy() for name, parameter in self.trainable().items()}
