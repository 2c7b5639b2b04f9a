"""All importance criteria by name: `training.importance`. `fedcore.core.pruning.criteria` has their costs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fedcore.core.errors import ConfigError
from fedcore.core.model.geometry import Geometry
from fedcore.nn.criteria.amp import amp
from fedcore.nn.criteria.flap import flap
from fedcore.nn.criteria.l0 import FIRST, L0Scorer
from fedcore.nn.criteria.layer_inputs import InputScorer
from fedcore.nn.criteria.lora_taylor import LoraTaylorScorer
from fedcore.nn.criteria.magnitude import MagnitudeScorer
from fedcore.nn.criteria.random import RandomScorer
from fedcore.nn.criteria.taylor import TaylorScorer
from fedcore.nn.criteria.wanda_sp import wanda_sp
from fedcore.nn.training.scorer import GroupState, Scorer


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """The values that a scorer may start from."""

    geometry: Geometry
    seed: int  # of the assignment
    state: GroupState | None = None  # left by the criterion in an earlier round


SCORERS: Mapping[str, Callable[[Beginning], Scorer]] = {
    "lora-taylor": lambda begin: LoraTaylorScorer(begin.state or GroupState.full(begin.geometry)),
    "taylor": lambda begin: TaylorScorer(),
    "magnitude": lambda begin: MagnitudeScorer(),
    "wanda-sp": lambda begin: InputScorer(rule=wanda_sp),
    "flap": lambda begin: InputScorer(rule=flap),
    "amp": lambda begin: InputScorer(rule=amp),
    "random": lambda begin: RandomScorer(seed=begin.seed),
    "l0": lambda begin: L0Scorer(begin.state or GroupState.full(begin.geometry, FIRST), seed=begin.seed),
}


def make_scorer(name: str, begin: Beginning) -> Scorer:
    """Return the scorer of a criterion; raises ConfigError for an unknown name, with the known ones."""
    if name not in SCORERS:
        raise ConfigError(f"training.importance: expected one of {', '.join(SCORERS)}; got {name!r}")
    return SCORERS[name](begin)
