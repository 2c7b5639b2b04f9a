"""Width, depth and both: python -m benchmarks.depth [--quick] [--json [FILE]]

One model in one place, on one core: cut to shares of its prunable parameters by narrower layers ("width", heads and
channels in the usual ratio), fewer layers ("depth") or by measured harm for each parameter ("both"); measured at once,
and after a short recovery with LoRA, with the dense model as a teacher, with the cut in five steps, and with both.
Figures are of MiniLM on movie reviews after a warm-up of 60 steps (needs `fedcore fetch minilm movies`). Models that
write are cut in `benchmarks.pruned_lm`.
"""

import argparse
import dataclasses
import sys

import torch

from benchmarks.criteria.setup import load_setup
from benchmarks.depth.classifying import WARM_UP, Classifying
from benchmarks.depth.cuts import WAYS
from benchmarks.depth.trial import points, recoveries
from benchmarks.report import emit, parser
from fedcore.core.errors import FedcoreError

SPARSITIES = (0.2, 0.35, 0.5)


def main() -> None:
    """Run the benchmark and report it."""
    args = _arguments()
    torch.set_num_threads(1)
    steps = 5 if args.quick else args.steps
    how = [each for each in recoveries(steps) if each.name in args.recoveries]
    try:
        found = list(points(_bench(args), args.ways, args.sparsities, how, lambda text: print(text, flush=True)))
    except FedcoreError as error:
        sys.exit(f"error: {error}")
    rows = [dataclasses.asdict(point) for point in found]
    shown = [{**row.pop("figures"), **row, "counts": str(row["counts"])} for row in rows]
    emit("depth", shown, args, notes={"recovery steps": steps, "seed": args.seed})


def _bench(args: argparse.Namespace) -> Classifying:
    setup = load_setup(test_count=48 if args.quick else args.test_rows, dtype="float32")
    return Classifying.of(setup, seed=args.seed, warm_up=10 if args.quick else WARM_UP)


def _arguments() -> argparse.Namespace:
    names = [each.name for each in recoveries(1)]
    made = parser("depth", "What removing width, depth and both costs, at once and after a short recovery.")
    made.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS), help="(all)")
    made.add_argument("--sparsities", nargs="+", type=float, default=SPARSITIES, help="(%(default)s)")
    made.add_argument("--recoveries", nargs="+", choices=names, default=names, help="(all)")
    made.add_argument("--steps", type=int, default=50, help="of a recovery (%(default)s)")
    made.add_argument("--test-rows", type=int, default=600, help="held-back rows (%(default)s)")
    made.add_argument("--seed", type=int, default=0, help="(%(default)s)")
    return made.parse_args()


if __name__ == "__main__":
    main()
