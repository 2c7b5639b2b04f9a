"""Read a JSON file that something else wrote: a run, an earlier process, a person."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedcore.core.boundary import Boundary
from fedcore.core.errors import FedcoreError, RunError


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a process listens, and its id."""

    address: str
    pid: int


def read_object(path: Path, kind: type[FedcoreError] = RunError, *, remedy: str) -> dict[str, Any]:
    """Return the JSON object in `path`; raises `kind`, naming the file and the remedy, for anything else."""
    with Boundary(kind, f"{path}: cannot be read as JSON", remedy=remedy):
        value = json.loads(path.read_bytes())
    if not isinstance(value, dict):
        raise kind(f"{path}: expected a JSON object, got {type(value).__name__}; {remedy}")
    return value


def read_endpoint(path: Path) -> Endpoint | None:
    """Return where a process says that it listens; None where `path` is not there or holds something else."""
    try:
        facts = read_object(path, remedy="")
        return Endpoint(address=str(facts["address"]), pid=int(facts["pid"]))
    except (RunError, LookupError, TypeError, ValueError):
        return None
