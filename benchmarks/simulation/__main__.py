"""What simulating a client costs: python -m benchmarks.simulation --rivals PYTHON [--quick] [--json [FILE]]

fedcore's simulator, Flower's, pfl and BlazeFL in processes of their own, one after the other, on the same tasks: the
same clients, rows, first parameters, steps and mean. The global models after the last round are compared. `--rivals`
names an interpreter that has torch, transformers, peft and whichever rivals are to be run; what is missing there is
reported.

    python -m venv rivals && rivals/bin/pip install torch==2.13.0 numpy==2.4.6 transformers==5.23.0 peft==0.21.2
    rivals/bin/pip install "flwr[simulation]==1.41.0" ray==2.55.1
    rivals/bin/pip install --no-deps --ignore-requires-python blazefl==2.0.2   # asks for Python 3.12, runs on 3.11
    rivals/bin/pip install pfl==0.6.0
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.data_plane.processes import MeasurementFailed
from benchmarks.report import emit, parser
from benchmarks.simulation.cases import prepare
from benchmarks.simulation.language import RECIPE as LORA
from benchmarks.simulation.measure import OURS, SHOWN, SIMULATORS, Row, compared, missing, run_simulator
from benchmarks.simulation.mlp import RECIPE as MLP
from benchmarks.simulation.task import Case

TASKS = {"mlp": (8, (100, 1_000)), "minilm-lora": (3, (100,))}  # rounds, clients per round; --clients takes others
NOTES = {
    "goals": "mlp: at least 5 times less time per client-round than the fastest rival; minilm-lora: less",
    "ms_per_client": "median over the rounds but the first, of a round's time / its clients",
    "cpu_ms_per_client": "processor time of the simulator's own process, its workers left out",
    "peak_mb": "largest sum of proportional memory (Pss) of the simulator and its workers",
    "largest_difference": "of any trained value of the global model after the last round, to ours",
    "mlp": f"64-128-10, 30 rows per client, {MLP.epochs} epoch of SGD in batches of {MLP.batch_size}",
    "minilm-lora": f"rank 8, 8 rows per client, {LORA.epochs} steps of AdamW on all of them, at most 64 tokens",
    "ours": "the whole simulator: strategy, round machine, verification, aggregation, event log, durable ledger",
    "threads": "one per process on mlp, where more only wait for each other; on minilm-lora one per core in all",
}


def main() -> None:
    """Measure what the flags select and report."""
    arguments = _parser().parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        for task in arguments.task or TASKS:
            rounds, sizes = TASKS[task]
            for clients in arguments.clients or (sizes[:1] if arguments.quick else sizes):
                case = prepare(task, clients, arguments.rounds or rounds, Path(place) / f"{task}-{clients}")
                rows += _compared(case, Path(place) / f"{task}-{clients}", arguments)
    emit("simulation", rows, arguments, notes=NOTES, shown=SHOWN)


def _compared(case: Case, folder: Path, arguments: argparse.Namespace) -> list[Row]:
    rows = []
    for name in arguments.only or SIMULATORS:
        print(f"{case.task}, {case.clients} clients per round: {name}", flush=True)
        rows.append(_measured(name, case, folder, arguments.rivals))
        print("   ", rows[-1].get("not_run") or f"{rows[-1]['ms_per_client']:.4g} ms per client-round", flush=True)
    return compared(rows, folder)


def _measured(name: str, case: Case, folder: Path, rivals: str) -> Row:
    row: Row = {"task": case.task, "clients": case.clients, "simulator": name}
    python = sys.executable if name == OURS else rivals
    why = missing(name, python)
    if why:
        return {**row, "not_run": why}
    try:
        return {**row, **run_simulator(name, python, case, folder)}
    except MeasurementFailed as error:
        return {**row, "not_run": str(error)}


def _parser() -> argparse.ArgumentParser:
    made = parser("simulation", "What simulating a client costs, against Flower, pfl and BlazeFL.")
    made.add_argument("--rivals", default="", metavar="PYTHON", help="an interpreter that has the rivals installed")
    made.add_argument("--only", choices=SIMULATORS, action="append", default=[], help="a simulator; may be repeated")
    made.add_argument("--task", choices=tuple(TASKS), action="append", default=[], help="may be repeated")
    made.add_argument("--clients", type=int, action="append", default=[], help="per round; may be repeated")
    made.add_argument("--rounds", type=int, default=0, help="in place of the task's own number")
    return made


if __name__ == "__main__":
    main()
