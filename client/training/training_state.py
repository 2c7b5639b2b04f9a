"""What training carries from round to round, as a file: optimiser moments and what the criterion remembers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save

from fedcore.core.model.keep_set import KeepSet
from fedcore.nn.training.moments import Holding, Moment
from fedcore.nn.training.scorer import GroupState
from fedcore.storage.atomic import write_atomic


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """Moments belong to `holding` and are worthless under another `basis`."""

    basis: str = ""
    holding: Holding | None = None
    moments: Mapping[str, Moment] = field(default_factory=dict)
    groups: GroupState | None = None  # what the importance criterion remembers


def save_training_state(path: Path, state: TrainingState) -> None:
    """Write the state atomically."""
    tensors: dict[str, NDArray[np.float32]] = {}
    for name, moment in state.moments.items():
        tensors[f"first.{name}"], tensors[f"second.{name}"] = moment.first, moment.second
    if state.groups is not None:
        tensors["groups.heads"], tensors["groups.channels"] = state.groups.heads, state.groups.channels
    facts = {
        "basis": state.basis,
        "rank": state.holding.rank if state.holding else 0,
        "keep_set": state.holding.keep_set.to_bytes().decode() if state.holding else "",
        "steps": {name: moment.step for name, moment in state.moments.items()},
    }
    contiguous = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    write_atomic(path, save(contiguous, metadata={"fedcore": json.dumps(facts)}))


def load_training_state(path: Path) -> TrainingState:
    """Read the state; an absent or damaged file is a fresh start, for moments can be learned again."""
    try:
        with safe_open(path, framework="np") as file:
            facts = json.loads((file.metadata() or {})["fedcore"])
            names = set(file.keys())
            moments = {
                name: Moment(
                    first=file.get_tensor(f"first.{name}"), second=file.get_tensor(f"second.{name}"), step=step
                )
                for name, step in facts["steps"].items()
            }
            groups = None
            if "groups.heads" in names:
                groups = GroupState(heads=file.get_tensor("groups.heads"), channels=file.get_tensor("groups.channels"))
            holding = None
            if facts["keep_set"]:
                holding = Holding(keep_set=KeepSet.from_bytes(facts["keep_set"].encode()), rank=facts["rank"])
            return TrainingState(basis=facts["basis"], holding=holding, moments=moments, groups=groups)
    except Exception:  # whatever a damaged file makes its readers raise
        return TrainingState()
