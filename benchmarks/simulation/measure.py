"""One simulator on one case: in a process of its own, watched for the memory of it and its workers."""

import json
import statistics
import subprocess
import time
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.data_plane.processes import Crew, MeasurementFailed
from benchmarks.simulation.task import Case

Row = dict[str, Any]

OURS = "ours"
PACKAGES = {
    OURS: "fedcore.simulation",
    "flower": "ray",
    "pfl": "pfl",
    "blazefl": "blazefl",
}  # what each needs importable
SIMULATORS = tuple(PACKAGES)
CORES = 2
LIMIT_S = 3600.0
LOOK_S = 0.5
SHOWN = (
    *("task", "clients", "simulator", "ms_per_client", "cpu_ms_per_client", "peak_mb"),
    *("times_ours", "largest_difference", "not_run"),
)
SWITCHES = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TOKENIZERS_PARALLELISM": "false",
}


def missing(name: str, python: str) -> str:
    """Return why a simulator cannot be run by an interpreter, empty where it can."""
    if not python:
        return "no --rivals interpreter was given"
    try:
        found = subprocess.run(
            [python, "-c", f"import {PACKAGES[name]}"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            encoding="utf-8",
        )
    except (OSError, subprocess.TimeoutExpired) as cause:
        return f"{python} cannot be run: {cause}"
    return "" if found.returncode == 0 else (found.stderr.strip().splitlines() or ["it failed without a word"])[-1]


def run_simulator(name: str, python: str, case: Case, folder: Path) -> Row:
    """Run the case and return its figures. Raises MeasurementFailed where the simulator does not finish."""
    threads = CORES if case.task != "mlp" and name != "flower" else 1  # Flower has a worker for every core
    environment = {
        **SWITCHES,
        "FLWR_HOME": str(folder),
        "PYTHONPATH": str(Path.cwd()),
        "OMP_NUM_THREADS": str(threads),
    }
    peaks = [0.0]
    with Crew(folder / "logs", environment) as crew:
        crew.start(name, [python, "-m", f"benchmarks.simulation.{name}", str(folder)])
        watched = Watch(crew, peaks)
        crew.wait_for(watched.over, LIMIT_S, f"{name} on {case.task}")
        crew.check()
        stored = folder / f"{name}.json"
        if not stored.is_file():
            raise MeasurementFailed(f"{name} ended without a result\n{crew.tails()}")
        result = json.loads(stored.read_text(encoding="utf-8"))
    return {
        "ms_per_client": 1e3 * per_round(result["ends"]) / case.clients,
        "cpu_ms_per_client": 1e3 * per_round(result["cpu"]) / case.clients,
        "peak_mb": max(peaks),
        "rounds": case.rounds,
        "versions": {key: value for key, value in result.items() if key not in ("ends", "cpu")},
    }


def per_round(ends: Iterable[float]) -> float:
    """Return the median of a round's time, the first left out, by the times at which rounds ended."""
    gaps = [later - earlier for earlier, later in pairwise(ends)][1:]
    if not gaps:
        raise MeasurementFailed("expected two rounds or more: the first is not counted")
    return statistics.median(gaps)


class Watch:
    """Looks at the memory of everything a crew has started, every now and then, until its member has ended."""

    def __init__(self, crew: Crew, peaks: list[float]) -> None:
        self._crew, self._peaks = crew, peaks
        self._next_s = 0.0

    def over(self) -> bool:
        """Whether the simulator has ended."""
        if time.monotonic() >= self._next_s:
            self._peaks.append(sum(pss_mb(pid) for pid in self._crew.pids()))
            self._next_s = time.monotonic() + LOOK_S
        return all(member.poll() is not None for member in self._crew.members.values())


def pss_mb(pid: int) -> float:
    """Return a process's memory in MB (10**6 bytes), a shared page divided among its processes; 0 where it ended."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1024 / 1e6


def compared(rows: Sequence[Row], folder: Path) -> list[Row]:
    """Return the rows with what sets them beside ours; without ours, as they are."""
    ours = next((row for row in rows if row["simulator"] == OURS and "not_run" not in row), None)
    if ours is None:
        return list(rows)
    return [
        row
        if row is ours or "not_run" in row
        else {
            **row,
            "times_ours": row["ms_per_client"] / ours["ms_per_client"],
            "largest_difference": difference(folder / f"{OURS}.npz", folder / f"{row['simulator']}.npz"),
        }
        for row in rows
    ]


def difference(first: Path, second: Path) -> float:
    """Return the largest difference of any value that both files name."""
    with np.load(first) as one, np.load(second) as other:
        names = sorted(set(one.files) & set(other.files))
        if not names:
            raise ValueError(f"{first} and {second} have no tensor in common")
        return max(float(np.abs(one[name] - other[name]).max()) for name in names)
