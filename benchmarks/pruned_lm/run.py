"""One cell from its configuration to its stored figures. Results are lines of one JSONL file."""

import tempfile
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.pruned_lm.cells import NONE, Cell
from benchmarks.pruned_lm.examination import AMOUNTS, Amount, examined
from benchmarks.pruned_lm.untrained import cut_at_once
from benchmarks.report import RESULTS, machine, store_line, stored_lines
from fedcore.client.data.rows import Rows
from fedcore.client.evaluation.model_evaluator import with_adapter
from fedcore.client.training.trainer import ModelSource
from fedcore.core.model.keep_set import KeepSet
from fedcore.server.rounds.evaluator_tasks import class_task
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.simulation.rounds.evaluation import RunEvaluation
from fedcore.simulation.run import simulate
from fedcore.simulation.setup import SimulationSetup, read_setup
from fedcore.transport.payload import payload

FILE = RESULTS / "pruned_lm.jsonl"
CLASS = "device"

Result = dict[str, Any]


def stored(file: Path = FILE) -> dict[str, Result]:
    """Return the results by hash; the last one of a cell counts."""
    return stored_lines(file)


def run_cell(cell: Cell, file: Path = FILE) -> Result:
    """Simulate a cell, append its figures to `file` and return them."""
    begin_s, cpu_s = time.monotonic(), time.process_time()
    setup, amount = read_setup(cell.config), AMOUNTS[cell.steps]
    found = _untrained(setup, cell, amount) if cell.recovery == NONE else _trained(setup, amount)
    result: Result = {
        "hash": cell.hash,
        "sparsity": cell.sparsity,
        "criterion": cell.criterion,
        "way": cell.way,
        "recovery": cell.recovery,
        "steps": 0,
        "budget": cell.steps,
        "seed": cell.seed,
        "overrides": list(cell.overrides),
        "settings": list(cell.settings),
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - begin_s, 1),
        "cpu_s": round(time.process_time() - cpu_s, 1),
        "machine": machine(),
        **found,
    }
    store_line(file, result)
    return result


def _untrained(setup: SimulationSetup, cell: Cell, amount: Amount) -> Result:
    training, test = _rows(setup)
    source = ModelSource.of(setup.config, setup.model, labels=(), targets=setup.spec.targets)
    return examined(source, test, cut_at_once(source, training, cell), amount)


def _trained(setup: SimulationSetup, amount: Amount) -> Result:
    last = _Last(rounds=setup.config.run.rounds, amount=amount, test=_rows(setup)[1])
    with tempfile.TemporaryDirectory(prefix="pruned-lm-") as folder:
        root = Path(folder) / "run"
        root.mkdir()
        run = Run.create(RunFolder(root), setup.config, setup.model)
        summary = simulate(setup, run, after_round=last)
    return {**last.figures, "steps": summary["totals"]["steps"]}


@dataclass(slots=True, kw_only=True)
class _Last:
    """Examines the model of the class after the last round, and says how far a run is."""

    rounds: int
    amount: Amount
    test: Rows
    figures: Result = field(default_factory=dict)

    def __call__(self, evaluation: RunEvaluation) -> None:
        """Look at the round that has just closed."""
        engine = evaluation.engine
        number = engine.model.adapter.round
        print(f"  round {number} of {self.rounds}", flush=True)
        if number < self.rounds:
            return
        task = class_task(engine, CLASS, 0)
        if task.keep_set is None:
            raise RuntimeError("the class has no keep-set")
        keep_set = KeepSet.from_bytes(payload(task.keep_set, engine.blobs))
        source, adapter = evaluation.evaluator.source, dict(engine.model.as_downloaded())
        classifier = with_adapter(source, adapter, lambda _: keep_set, task.lora_scale)
        self.figures = examined(source, self.test, classifier, self.amount)


def _rows(setup: SimulationSetup) -> tuple[Rows, Rows]:
    if setup.training is None or setup.test is None:
        raise RuntimeError("the benchmark's fleet trains on rows")
    return setup.training, setup.test
