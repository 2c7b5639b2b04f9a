"""Run cells that are not stored yet, or report those that are.

    python -m benchmarks.pruned_lm --sparsities 0 0.2 0.5 --recoveries lora lora+distill
    python -m benchmarks.pruned_lm --quick
    python -m benchmarks.pruned_lm --report

--quick takes 64 steps instead of 600 and fewer rows, --look 8 steps and a few rows, to see whether everything runs:
what that finds is not stored. Set OMP_NUM_THREADS=1 where other work shares the machine.
"""

import argparse
import tempfile
from pathlib import Path

import torch

from benchmarks.depth.cuts import WAYS
from benchmarks.pruned_lm.cells import RECOVERIES, SPARSITIES, cells
from benchmarks.pruned_lm.figure import draw
from benchmarks.pruned_lm.run import FILE, run_cell, stored
from benchmarks.pruned_lm.table import print_table
from fedcore.core.pruning.criteria import CRITERIA
from fedcore.server.process.collector import collect_seldom
from fedcore.storage.process.quiet import silence_telemetry

FULL, QUICK, LOOK = 600, 64, 8


def main() -> None:
    """Parse the command line, then run or report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pruned_lm", description=__doc__)
    parser.add_argument("--sparsities", nargs="+", type=float, default=SPARSITIES)
    parser.add_argument("--criteria", nargs="+", choices=CRITERIA, default=["taylor"])
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["width"])
    parser.add_argument("--recoveries", nargs="+", choices=RECOVERIES, default=list(RECOVERIES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--set", nargs="+", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK} steps instead of {FULL}")
    parser.add_argument("--look", action="store_true", help=f"{LOOK} steps and a few rows; nothing is stored")
    parser.add_argument("--report", action="store_true", help="print and draw what is stored, run nothing")
    args = parser.parse_args()
    if args.report:
        print_table(stored().values())
        print(draw(stored().values()))
        return
    silence_telemetry()
    collect_seldom()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="pruned-lm-") as folder:
        _run(args, Path(folder) / "look.jsonl" if args.look else FILE)


def _run(args: argparse.Namespace, file: Path) -> None:
    steps = LOOK if args.look else QUICK if args.quick else FULL
    overrides = [override for group in args.overrides for override in group]
    chosen = cells(
        args.sparsities,
        args.criteria,
        args.ways,
        args.recoveries,
        args.seeds,
        steps=steps,
        overrides=overrides,
    )
    for cell in chosen:
        if cell.hash in stored(file):
            print(f"{cell.name}: stored", flush=True)
            continue
        print(cell.name, flush=True)
        result = run_cell(cell, file)
        shown = ("exact_match", "perplexity", "general_perplexity", "speedup", "steps", "seconds")
        print("  " + ", ".join(f"{name} {result[name]:g}" for name in shown), flush=True)


if __name__ == "__main__":
    main()
