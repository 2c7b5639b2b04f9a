"""One cell from its configuration to its stored figures. Results are lines of one JSONL file."""

import tempfile
import time
from collections import Counter
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.anyset.cells import Cell
from benchmarks.report import RESULTS, machine, store_line, stored_lines
from fedcore.core.contract.protocols import Json
from fedcore.server.run.journal import read_events
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.simulation.run import simulate
from fedcore.simulation.setup import read_setup

FILE = RESULTS / "anyset.jsonl"
FIGURES = ("accuracy", "macro_f1", "auc", "loss")

Result = dict[str, Any]


def stored(file: Path = FILE) -> dict[str, Result]:
    """Return the results by hash; the last one of a cell counts."""
    return stored_lines(file)


def run_cell(cell: Cell, file: Path = FILE) -> Result:
    """Simulate a cell, append its figures to `file` and return them."""
    begin_s, cpu_s = time.monotonic(), time.process_time()
    setup = read_setup(cell.config)
    with tempfile.TemporaryDirectory(prefix="anyset-") as folder:
        root = Path(folder) / "run"
        root.mkdir()
        summary = simulate(setup, Run.create(RunFolder(root), setup.config, setup.model))
        notes = _notes(root)
    assert setup.training is not None and setup.test is not None
    shares = Counter(setup.test.labels)
    result: Result = {
        "hash": cell.hash,
        "set": Path(cell.data).stem,
        "skew": cell.skew,
        "line": cell.line,
        "seed": cell.seed,
        "overrides": list(cell.overrides),
        "settings": list(cell.settings),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - begin_s, 1),
        "cpu_s": round(time.process_time() - cpu_s, 1),
        "machine": machine(),
        "labels": len(setup.config.data.labels),
        "training_rows": len(setup.training),
        "test_rows": len(setup.test),
        "device_rows": sorted(device.profile.num_examples for device in setup.fleet.devices.values()),
        "majority": max(shares.values()) / len(setup.test),
        "virtual_s": summary["totals"]["duration_s"],
        "bytes": summary["totals"]["bytes_up"] + summary["totals"]["bytes_down"],
        "steps": summary["totals"]["steps"],
        "global": _short(summary["global"]["final"]),
        "classes": {name: _short(figures["test"]) for name, figures in summary["classes"].items()},
        **notes,
    }
    store_line(file, result)
    return result


def _notes(root: Path) -> Json:
    """Return what a run found out by itself."""
    rates = [event for event in read_events(RunFolder(root).events) if event["event"] == "learning_rate"]
    return {"learning_rate": rates[-1]["learning_rate"]} if rates else {}


def _short(metrics: Json) -> Json:
    return {key: metrics[key] for key in FIGURES}
