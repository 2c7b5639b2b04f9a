"""Every task's torch side, by the task's name."""

from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.simulation.task import Learner, read_case


def _mlp(folder: Path) -> Learner:
    from benchmarks.simulation.mlp import MlpLearner

    return MlpLearner(folder)


def _lora(folder: Path) -> Learner:
    from benchmarks.simulation.lora import LoraLearner  # imports transformers, which the small task does without

    return LoraLearner(folder)


LEARNERS: Mapping[str, Callable[[Path], Learner]] = {"mlp": _mlp, "minilm-lora": _lora}


def make_learner(folder: Path) -> Learner:
    """Return the learner of the folder's case."""
    return LEARNERS[read_case(folder).task](folder)
