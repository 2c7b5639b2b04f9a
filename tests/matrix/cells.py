"""What the matrix runs: one cell per interpreter and set of library versions."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fedcore.core.config.toml import read_toml

ROOT = Path(__file__).parents[2]
EXTRAS = ("client", "quantize", "rouge")
_LOWEST = re.compile(r"([A-Za-z0-9-]+)>=([0-9.]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One interpreter with one set of versions.

    `python`: its version, such as "3.10". `constraints`: lines for pip's `-c`.
    """

    name: str
    python: str
    constraints: tuple[str, ...]


def lowest(text: str) -> tuple[str, ...]:
    """Pin what a pyproject.toml's `text` requires of a device to the lower bounds that it states.

    A requirement without a lower bound, or for other interpreters alone, is left as pip resolves it.
    """
    project = read_toml(text)["project"]
    wanted = [*project["dependencies"]]
    for extra in EXTRAS:
        wanted += project["optional-dependencies"][extra]
    return tuple(_pins(wanted))


def cells(root: Path = ROOT) -> tuple[Cell, ...]:
    """Return every cell, read from the project's own files."""
    bounds = lowest((root / "pyproject.toml").read_text(encoding="utf-8"))
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = tuple(line for line in lines if line and not line.startswith("#"))
    return (
        Cell(name="3.10-lowest", python="3.10", constraints=bounds),
        Cell(name="3.10-newest", python="3.10", constraints=_of_torch(pinned)),
        Cell(name="3.11-lowest", python="3.11", constraints=bounds),
        Cell(name="3.12-pinned", python="3.12", constraints=pinned),
        Cell(name="3.13-pinned", python="3.13", constraints=pinned),
    )


def _pins(requirements: Iterable[str]) -> Iterable[str]:
    for requirement in requirements:
        found = _LOWEST.match(requirement)
        if found and ";" not in requirement:
            yield f"{found[1]}=={found[2]}"


def _of_torch(pinned: Iterable[str]) -> tuple[str, ...]:
    """Hold PyTorch alone: the other pins are for newer interpreters."""
    return tuple(line for line in pinned if line.startswith("torch=="))
