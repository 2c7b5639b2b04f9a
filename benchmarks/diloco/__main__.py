"""Bytes and time per unit of loss, DiLoCo beside FedIT: python -m benchmarks.diloco [--quick] [--tune] [--json [FILE]]

Eight virtual devices fine-tune MiniLM on movie reviews (needs `fedcore fetch minilm movies`); a device takes as many
optimiser steps under every case, in rounds of 10 or of 30. What is compared is the held-back loss after each round with
bytes and virtual seconds up to it. --tune searches both strategies' learning rates instead.
"""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.diloco.cases import (
    LOCAL_STEPS,
    QUICK,
    QUICK_LOCAL_STEPS,
    QUICK_STEPS,
    STEPS,
    Case,
    Point,
    cases,
    simulated,
    tuning_cases,
)
from benchmarks.report import emit, parser
from fedcore.core.errors import FedcoreError

FIGURE = Path("benchmarks/figures/diloco.png")
SHOWN = ("case", "rounds", "loss", "accuracy", "up_mb", "down_mb", "virtual_s", "up_mb_per_nat", "up_mb_to_fedit")


def main() -> None:
    """Run the benchmark, report it and draw its figure."""
    made = parser("diloco", "Loss for bytes and for time: an outer Nesterov step and coarse codecs beside FedIT.")
    made.add_argument("--tune", action="store_true", help="search the learning rates, at a third of the length")
    made.add_argument("--steps", type=int, default=STEPS, help="optimiser steps of a device in all (%(default)s)")
    made.add_argument("--figure", type=Path, help=f"where the picture goes ({FIGURE}; with --quick nowhere)")
    args = made.parse_args()
    torch.set_num_threads(1)
    steps, overrides = (QUICK_STEPS, QUICK) if args.quick else (args.steps, ())
    selected = tuning_cases(steps) if args.tune else cases(steps, QUICK_LOCAL_STEPS if args.quick else LOCAL_STEPS)
    try:
        runs = {case: _reported(case, overrides) for case in selected}
    except FedcoreError as error:
        sys.exit(f"error: {error}")
    emit("diloco", rows(runs), args, notes={"steps per device": steps}, shown=SHOWN)
    path = args.figure or (None if args.quick or args.tune else FIGURE)
    if path is not None:
        # Imported here: drawing needs matplotlib, figures in numbers do not.
        from benchmarks.diloco.figure import draw

        draw(runs, path)
        print(f"wrote {path}")


def rows(runs: Mapping[Case, Sequence[Point]]) -> list[dict[str, Any]]:
    """Return a row per case; `up_mb_to_fedit` is what it sent up to its first loss as low as the first case's last."""
    goal = next(iter(runs.values()))[-1].loss
    return [_row(case, run, goal) for case, run in runs.items()]


def _row(case: Case, run: Sequence[Point], goal: float) -> dict[str, Any]:
    last, dropped = run[-1], run[0].loss - run[-1].loss
    reached = next((point for point in run if point.loss <= goal), None)
    return {
        "case": case.name,
        "learning_rate": case.learning_rate,
        "seed": case.seed,
        "rounds": last.round,
        "loss_untrained": run[0].loss,
        "loss": last.loss,
        "accuracy": last.accuracy,
        "up_mb": last.bytes_up / 1e6,
        "down_mb": last.bytes_down / 1e6,
        "virtual_s": last.virtual_s,
        "up_mb_per_nat": last.bytes_up / 1e6 / dropped if dropped > 0 else None,
        "up_mb_to_fedit": None if reached is None else reached.bytes_up / 1e6,
        "down_mb_to_fedit": None if reached is None else reached.bytes_down / 1e6,
        "virtual_s_to_fedit": None if reached is None else reached.virtual_s,
        "points": [dataclasses.asdict(point) for point in run],
    }


def _reported(case: Case, overrides: tuple[str, ...]) -> list[Point]:
    run = simulated(case, overrides)
    print(f"{case.name} lr={case.learning_rate:g}: loss {run[-1].loss:.4f}, {run[-1].virtual_s:.0f} s", flush=True)
    return run


if __name__ == "__main__":
    main()
