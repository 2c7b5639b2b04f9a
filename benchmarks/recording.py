"""Real updates to measure with: the float32 increments of every device and round of a rehearsed run, kept in the cache.

A recording is a folder of safetensors files, one per update, named by its configuration; made once, read ever after.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.rehearsal import rehearse
from fedcore.core.codec.chain import decode, encode
from fedcore.core.config.tables import Config
from fedcore.core.config.toml import parse_config, to_toml
from fedcore.core.contract.assignment import Assignment
from fedcore.core.model.adapter import Tensors
from fedcore.storage.models.cache import build_entry, cache_folder
from fedcore.strategies.table import resolve_settings

QUICKSTART = Path("examples/quickstart.toml")
REPEATABLE = ("strategy.reward_times=model", *(f"fleet.class.{name}.memory_mb=0" for name in ("agx", "nx", "tx2")))

Arrays = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """One device's increments in one round."""

    round: int
    device: str
    rank: int
    tensors: Tensors

    @property
    def values(self) -> int:
        """Number of float32 values."""
        return sum(value.size for value in self.tensors.values())


def quickstart(overrides: Sequence[str]) -> Config:
    """Return the quickstart's configuration, made repeatable, with `overrides`."""
    return resolve_settings(parse_config(QUICKSTART.read_text(encoding="utf-8"), [*REPEATABLE, *overrides]))


def recorded(config: Config, say: Callable[[str], None]) -> list[Recorded]:
    """Return the updates of a run of `config`, of the recording in the cache or of one made now."""
    key = hashlib.sha256(f"{version('fedcore')}\n{to_toml(config)}".encode()).hexdigest()[:12]
    folder = build_entry(
        cache_folder() / "recordings" / f"{config.run.name}-{key}", lambda draft: _record(config, draft, say)
    )
    return list(_read(folder))


def _record(config: Config, folder: Path, say: Callable[[str], None]) -> None:
    def keep(assignment: Assignment, increment: Arrays) -> Tensors:
        name = f"{assignment.round:03}.{assignment.device}.{assignment.arm.rank}.safetensors"
        (folder / name).write_bytes(encode(increment, "identity"))
        return increment

    for number in rehearse(config).rounds(keep):
        say(f"recorded round {number} of {config.run.rounds}")


def _read(folder: Path) -> Iterator[Recorded]:
    for path in sorted(folder.glob("*.safetensors")):
        number, device, rank, _ = path.name.split(".")
        tensors: Mapping[str, NDArray[np.float32]] = dict(decode(path.read_bytes()))
        yield Recorded(round=int(number), device=device, rank=int(rank), tensors=tensors)
