"""A task as every simulator gets it: a folder of arrays, and a torch module that learns from them.

Imported by rivals in an interpreter of their own: nothing but numpy, torch and the standard library.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.float32]]
Batch = tuple[torch.Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a client trains: `epochs` over its rows in their order."""

    batch_size: int
    epochs: int
    learning_rate: float
    optimizer: str  # sgd, or adamw with the weight decay below
    weight_decay: float = 0.0
    max_gradient_norm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One measurement: every one of `clients` takes part in each of `rounds`."""

    task: str
    clients: int
    rounds: int
    recipe: Recipe
    model: str = ""  # folder of the base model, where there is one

    def write(self, folder: Path) -> None:
        """Write what `read_case` reads."""
        content = {name: getattr(self, name) for name in ("task", "clients", "rounds", "model")}
        recipe = {name: getattr(self.recipe, name) for name in Recipe.__dataclass_fields__}
        (folder / "case.json").write_text(json.dumps({**content, "recipe": recipe}), encoding="utf-8")


def read_case(folder: Path) -> Case:
    """Read the case of a folder."""
    content = json.loads((folder / "case.json").read_text(encoding="utf-8"))
    return Case(**{**content, "recipe": Recipe(**content["recipe"])})


class Learner(Protocol):
    """A task's torch side: one model, kept warm, and every client's rows."""

    module: torch.nn.Module  # has `loss(*batch)`

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        """Parameters that clients train, by canonical name, in one order for all simulators."""
        ...

    def rows(self, client: int) -> Batch:
        """All rows of a client, in order: what `loss` takes, with a first axis of rows."""
        ...

    def tensors(self) -> Arrays:
        """The trainable parameters as they are compared, by canonical name."""
        ...


def optimizer_of(recipe: Recipe, parameters: Sequence[torch.nn.Parameter]) -> torch.optim.Optimizer:
    """Return a new optimizer."""
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=recipe.learning_rate)
    return torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)


def train_client(learner: Learner, recipe: Recipe, client: int) -> None:
    """Train on one client's rows from the parameters as they are: the plain torch loop."""
    parameters = list(learner.trainable().values())
    optimizer = optimizer_of(recipe, parameters)
    rows = learner.rows(client)
    for _ in range(recipe.epochs):
        for batch in zip(*(torch.split(tensor, recipe.batch_size) for tensor in rows), strict=True):
            optimizer.zero_grad(set_to_none=True)
            learner.module.loss(*batch).backward()  # type: ignore[operator]
            if recipe.max_gradient_norm is not None:
                torch.nn.utils.clip_grad_norm_(parameters, recipe.max_gradient_norm)
            optimizer.step()


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write named arrays as an .npz file."""
    np.savez(path, allow_pickle=False, **{name: np.asarray(value) for name, value in arrays.items()})


@dataclass(slots=True)
class Record:
    """What a simulator leaves: when each round ended, on the clock and in its own processor time, and the model."""

    folder: Path
    name: str
    ends: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.round_ended()  # the beginning of the first one

    def round_ended(self) -> None:
        """Note the times."""
        self.ends.append(time.perf_counter())
        self.cpu.append(time.process_time())

    def write(self, tensors: Arrays, **notes: Any) -> None:
        """Write times and tensors; `notes` say versions and processes."""
        write_arrays(self.folder / f"{self.name}.npz", tensors)
        path = self.folder / f"{self.name}.json"
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps({"ends": self.ends, "cpu": self.cpu, **notes}), encoding="utf-8")
        draft.replace(path)
