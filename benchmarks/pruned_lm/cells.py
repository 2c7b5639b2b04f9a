"""A cell of the benchmark: a cut, a recovery and a seed, as one configuration with a hash of its own."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from benchmarks.depth.cuts import WAYS
from benchmarks.pruned_lm import general
from benchmarks.pruned_lm.nouns import nouns
from fedcore.core.config.tables import Config
from fedcore.core.config.toml import parse_config

FLEET = Path(__file__).parent / "fleet.toml"
HASH_DIGITS = 10
SPARSITIES = (0.0, 0.2, 0.35, 0.5)
NONE = "none"  # cut at once, nothing is trained
RECOVERIES = {
    NONE: (),
    "lora": (),
    "lora+distill": ("training.distill=0.5",),
    "lora+distill+replay": ("training.distill=0.5", "data.replay_share=0.25"),
}
REPLAY = "lora+distill+replay"
BUDGETS = {  # steps of all four devices together
    600: (),
    64: ("run.rounds=4", "training.local_steps=4"),
    8: ("run.rounds=2", "training.local_steps=1"),  # for a look whether everything runs
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run that can be done. `overrides` come last, "table.key=value" each."""

    sparsity: float
    criterion: str = "taylor"
    way: str = "width"  # of WAYS; of a dense model it has no meaning
    recovery: str = "lora"
    steps: int = 600  # of BUDGETS, which say how many rows are measured too; NONE takes none of them
    seed: int = 0
    overrides: tuple[str, ...] = ()

    @property
    def settings(self) -> tuple[str, ...]:
        """Everything that differs from the benchmark's fleet, but for the paths of rows."""
        return (
            f"strategy.target_sparsity={self.sparsity}",
            f"training.importance={self.criterion}",
            f"strategy.remove={json.dumps(WAYS[self.way])}",
            f"run.seed={self.seed}",
            *RECOVERIES[self.recovery],
            *BUDGETS[self.steps],
            *self.overrides,
        )

    @property
    def config(self) -> Config:
        """The configuration; raises ConfigError for a key that this version does not know."""
        replay = (f"data.replay={general.replayed()}",) if self.recovery == REPLAY else ()
        paths = (f"data.train={nouns()}", *replay)
        return parse_config(FLEET.read_text(encoding="utf-8"), (*paths, *self.settings))

    @property
    def hash(self) -> str:
        """Of the benchmark's fleet, of what differs from it, and of whether anything is trained."""
        text = json.dumps([FLEET.read_text(encoding="utf-8"), self.recovery, *self.settings])
        return hashlib.sha256(text.encode()).hexdigest()[:HASH_DIGITS]

    @property
    def name(self) -> str:
        """For people."""
        cut = f"{self.sparsity:.0%} {self.criterion} {self.way}" if self.sparsity else "dense"
        return " ".join((f"{cut} {self.recovery}, {self.steps} steps, seed {self.seed}", *self.overrides))


def cells(
    sparsities: Sequence[float],
    criteria: Sequence[str],
    ways: Sequence[str],
    recoveries: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int,
    overrides: Sequence[str] = (),
) -> Iterator[Cell]:
    """Yield the cells of a cross product, seeds outermost; a dense model has one criterion, way and tuning."""
    seen = set()
    for seed, recovery, way, criterion, sparsity in product(seeds, recoveries, ways, criteria, sparsities):
        dense = sparsity == 0
        cell = Cell(
            sparsity=sparsity,
            criterion="taylor" if dense else criterion,
            way="width" if dense else way,
            recovery=NONE if dense and recovery == NONE else "lora" if dense else recovery,
            steps=steps,
            seed=seed,
            overrides=tuple(overrides),
        )
        if cell.hash not in seen:
            seen.add(cell.hash)
            yield cell
