"""Run cells that are not stored yet, or report those that are.

    python -m benchmarks.anyset --data movies tweets --skews 1.0 --lines fedspine fedit --seeds 0 \\
        --set training.learning_rate=1e-3
    python -m benchmarks.anyset --report

Start as many side by side as there are cores, and bind each to its own (`taskset -c 0`): the evaluation at the end of a
run takes every core that it may use, and two that share them take three times as long.
"""

import argparse

from benchmarks.anyset.cells import LINES, NAMES, SKEWS, cells
from benchmarks.anyset.figure import draw
from benchmarks.anyset.paired import print_comparisons
from benchmarks.anyset.run import run_cell, stored
from benchmarks.anyset.table import print_table
from fedcore.server.process.collector import collect_seldom
from fedcore.storage.process.quiet import silence_telemetry


def main() -> None:
    """Parse the command line, then run or report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.anyset", description=__doc__)
    parser.add_argument("--data", nargs="+", default=list(NAMES), help=f"of {', '.join(NAMES)}, or paths of files")
    parser.add_argument("--skews", nargs="+", choices=SKEWS, default=["1.0"])
    parser.add_argument("--lines", nargs="+", choices=LINES, default=["fedspine", "fedit", "uniform"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--set", nargs="+", action="append", default=[], metavar="KEY=VALUE", dest="overrides")
    parser.add_argument("--report", action="store_true", help="print and draw what is stored, run nothing")
    args = parser.parse_args()
    if args.report:
        print_table(stored().values())
        print_comparisons(stored().values())
        print(draw(stored().values()))
        return
    silence_telemetry()
    collect_seldom()
    overrides = [override for group in args.overrides for override in group]
    for cell in cells(args.data, args.skews, args.lines, args.seeds, overrides):
        if cell.hash in stored():
            print(f"{cell.name}: stored", flush=True)
            continue
        result = run_cell(cell)
        shown = " ".join(f"{name} {figures['accuracy']:.3f}" for name, figures in result["classes"].items())
        print(f"{cell.name}: {shown}; {result['seconds']:.0f} s", flush=True)


if __name__ == "__main__":
    main()
