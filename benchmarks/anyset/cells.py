"""A cell of the benchmark: a data set, a skew, a method and a seed, as one configuration with a hash of its own."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.anyset import sets
from fedcore.core.config.tables import Config
from fedcore.core.config.toml import parse_config

FLEET = Path(__file__).parent / "fleet.toml"
HASH_DIGITS = 10

ONE_RANK = "strategy.ranks=[8]"  # where a method has one rank for all
LINES = {
    "fedspine": ("strategy.name=fedspine",),
    "fedit": ("strategy.name=fedavg-lora", ONE_RANK),
    "uniform": ("strategy.name=uniform", ONE_RANK),
    "hetlora": ("strategy.name=hetlora",),
    "random-arms": ("strategy.name=random-arms",),
}
SKEWS = {
    "iid": ("data.partition=iid",),
    "one-label": ("data.partition=one-label",),
    **{str(alpha): ("data.partition=dirichlet", f"data.alpha={alpha}") for alpha in (1.0, 0.5, 0.1, 0.05)},
}
PATHOLOGICAL = ("0.1", "0.05", "one-label")  # skews at which devices lack labels
FETCHED = {
    "movies": ("data.train=fetch:movies",),
    "tweets": ("data.train=fetch:tweets",),
    "amazon": ("data.train=fetch:amazon",),
    "r8": ("data.train=fetch:r8-train", "data.test=fetch:r8-test"),
}
NAMES = (*FETCHED, *sets.SETS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run that can be done. `overrides` come last, "table.key=value" each."""

    data: str  # one of NAMES, or the path of a file with columns text and label
    skew: str
    line: str
    seed: int
    overrides: tuple[str, ...] = ()

    @property
    def settings(self) -> tuple[str, ...]:
        """Everything but the data that differs from the benchmark's fleet."""
        return (*SKEWS[self.skew], *LINES[self.line], f"run.seed={self.seed}", *self.overrides)

    @property
    def config(self) -> Config:
        """The configuration; raises ConfigError for a key that this version does not know."""
        made = str(sets.path_of(self.data)) if self.data in sets.SETS else self.data
        data = FETCHED.get(self.data, (f"data.train={made}",))
        return parse_config(FLEET.read_text(encoding="utf-8"), (*data, *self.settings))

    @property
    def hash(self) -> str:
        """Of the benchmark's fleet and of what differs from it; a data file counts by its name."""
        text = json.dumps([FLEET.read_text(encoding="utf-8"), Path(self.data).stem, *self.settings])
        return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]

    @property
    def name(self) -> str:
        """For people."""
        parts = (Path(self.data).stem, self.skew, self.line, f"seed{self.seed}", *self.overrides)
        return " ".join(parts)


def cells(
    data: Sequence[str], skews: Sequence[str], lines: Sequence[str], seeds: Sequence[int], overrides: Sequence[str]
) -> list[Cell]:
    """Return the cells of a cross product, seeds outermost: a plan that breaks off has whole comparisons."""
    return [
        Cell(data=name, skew=skew, line=line, seed=seed, overrides=tuple(overrides))
        for seed in seeds
        for name in data
        for skew in skews
        for line in lines
    ]
