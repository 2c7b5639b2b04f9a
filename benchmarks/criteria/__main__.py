"""Importance criteria in one place: python -m benchmarks.criteria [--quick] [--seeds N] [--json [FILE]]

MiniLM on movie reviews (needs `fedcore fetch minilm movies`), on one core. A short LoRA warm-up is shared by all
criteria of a seed; each scores the same calibration batches, the model is cut once to every sparsity, and measured on
held-back rows right away and after a short recovery. Then, by rank and warm-up steps: how well LoRA's gradients stand
in for the weights' own.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.criteria.correlation import Agreement, Checkpoints, agreements
from benchmarks.criteria.curves import CASES, Plan, Point, curves
from benchmarks.criteria.setup import load_setup
from benchmarks.report import emit, parser
from fedcore.core.errors import FedcoreError

FIGURES = Path("benchmarks/figures")
QUICK_PLAN = Plan(
    warmup_steps=10, calibration_batches=1, gate_steps=3, sparsities=(0.3, 0.5), recovered=(0.5,), recovery_steps=3
)
QUICK_CHECKPOINTS = Checkpoints(ranks=(4,), steps=(0, 5), batches=1)
TEST_ROWS, QUICK_TEST_ROWS = 600, 48


def main() -> None:
    """Run the benchmark, report it and draw its figures."""
    args = _arguments()
    torch.set_num_threads(1)
    plan, checkpoints = (QUICK_PLAN, QUICK_CHECKPOINTS) if args.quick else (Plan(), Checkpoints())
    points: list[Point] = []
    found: list[Agreement] = []
    try:
        setup = load_setup(test_count=QUICK_TEST_ROWS if args.quick else TEST_ROWS, dtype=args.dtype)
        for seed in range(1 if args.quick else args.seeds):
            points += curves(setup, plan, args.cases, seed, _say)
            if seed == 0:  # a mean over layers already; more seeds would cost more than they tell
                found += agreements(setup, checkpoints, seed, _say)
    except FedcoreError as error:
        sys.exit(f"error: {error}")
    notes = {
        "plan": dataclasses.asdict(plan),
        "test rows": len(setup.test),
        "dtype": args.dtype,
        "accuracy not pruned": _mean(points, "dense", 0.0, 0),
    }
    emit("criteria", [*rows(points, plan), *agreement_rows(found)], args, notes=notes, shown=_columns(plan))
    folder = args.figures or (None if args.quick else FIGURES)
    if folder is not None:
        # Imported here: drawing needs matplotlib, figures in numbers do not.
        from benchmarks.criteria.figure import draw_agreement, draw_curves

        draw_curves(points, folder / "criteria.png")
        draw_agreement(found, folder / "criteria_lora_gradients.png")
        print(f"wrote {folder}/criteria.png and criteria_lora_gradients.png")


def rows(points: Sequence[Point], plan: Plan) -> list[dict[str, Any]]:
    """Return a row per criterion: mean accuracy by sparsity, one-shot, then recovered."""
    wanted = [(sparsity, 0) for sparsity in plan.sparsities]
    wanted += [(sparsity, plan.recovery_steps) for sparsity in plan.recovered]
    return [
        {"criterion": case}
        | {name: _mean(points, case, *key) for name, key in zip(_columns(plan)[1:], wanted, strict=True)}
        | {"points": [dataclasses.asdict(point) for point in points if point.case == case]}
        for case in dict.fromkeys(point.case for point in points if point.case != "dense")
    ]


def agreement_rows(found: Sequence[Agreement]) -> list[dict[str, Any]]:
    """Return a row per rank of the adapter: correlations of LoRA's gradients with the weights' own."""
    return [
        {
            "criterion": f"LoRA gradients against |w g|, rank {rank}",
            "agreement": [dataclasses.asdict(agreement) for agreement in found if agreement.rank == rank],
        }
        for rank in sorted({agreement.rank for agreement in found})
    ]


def _columns(plan: Plan) -> list[str]:
    return [
        "criterion",
        *(f"{sparsity:.0%}" for sparsity in plan.sparsities),
        *(f"{sparsity:.0%} recovered" for sparsity in plan.recovered),
    ]


def _mean(points: Sequence[Point], case: str, sparsity: float, steps: int) -> float:
    chosen = (case, sparsity, steps)
    return float(
        np.mean([point.accuracy for point in points if (point.case, point.sparsity, point.recovery_steps) == chosen])
    )


def _arguments() -> argparse.Namespace:
    made = parser("criteria", "Accuracy against sparsity by importance criterion, and what LoRA's gradients tell.")
    made.add_argument("--seeds", type=int, default=2, help="seeds, from 0 (%(default)s)")
    made.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="criteria (all)")
    made.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="of the base (%(default)s)")
    made.add_argument("--figures", type=Path, help=f"where the pictures go ({FIGURES}; with --quick nowhere)")
    return made.parse_args()


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
