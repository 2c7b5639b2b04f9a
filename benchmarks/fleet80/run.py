"""One case from its configuration to its result; a run that was broken off goes on where it stood."""

import shutil
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.fleet80.cases.case import FOLDER, Case, changed
from benchmarks.fleet80.delivery import prunes
from benchmarks.fleet80.examine import NOTE, Examiner
from benchmarks.fleet80.rounds import round_figures
from benchmarks.fleet80.stored import Result, store
from benchmarks.report import machine
from fedcore.server.process.collector import collect_seldom
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.simulation.run import simulate
from fedcore.simulation.setup import SimulationSetup, read_setup

RUNS = Path("runs/fleet80")

Say = Callable[[str], None]


def run_case(case: Case, say: Say, *, base: Path = FOLDER, runs: Path = RUNS) -> Result:
    """Run `case`, store its result below `base` and return it; its run folder lives only until then."""
    begin = time.monotonic()
    folder = RunFolder(runs / case.track.name / case.name)
    setup = read_setup(case.config)
    run = _run(folder, setup)
    examiner = Examiner(config=setup.config, model=setup.model, track=case.track, say=say)
    collect_seldom()
    simulate(setup, run, after_round=examiner)
    final = {} if case.tuning else examiner.final()
    result = {
        **_heading(case, time.monotonic() - begin),
        "rounds": _rounds(folder),
        "final": final,
    }
    say(f"stored {store(case, result, base)}")
    shutil.rmtree(folder.root)
    return result


def _run(folder: RunFolder, setup: SimulationSetup) -> Run:
    """Open a run to go on with, or begin one anew where there is none or its result was lost."""
    if folder.summary.is_file():
        shutil.rmtree(folder.root)
    if folder.ledger.is_file():
        return Run.resume(folder, setup.model)
    folder.root.mkdir(parents=True, exist_ok=True)
    return Run.create(folder, setup.config, setup.model)


def _rounds(folder: RunFolder) -> list[dict[str, Any]]:
    ledger = Ledger.open(folder.ledger, read_only=True)
    try:
        outcomes = ledger.outcomes()
        records = round_figures(ledger.rounds(), outcomes.values())
        for record in records:
            measured = ledger.get_meta(NOTE.format(record["round"])) or {}
            record |= {key: measured.get(key) for key in ("delivered", "dense")}
        return records
    finally:
        ledger.close()


def _heading(case: Case, seconds: float) -> dict[str, Any]:
    return {
        "benchmark": "fleet80",
        "track": case.track.name,
        "variant": case.variant.name,
        "strategy": case.config.strategy.name,
        "prunes": prunes(case.config),
        "seed": case.seed,
        "learning_rate": case.rate,
        "tuning": case.tuning,
        "hash": case.hash,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
        "machine": machine(),
        "config": changed(case.config),
    }
