"""Strategies on a fleet of 80 virtual devices: python -m benchmarks.fleet80 --strategy NAME --seed N

    --strategy NAME --seed N   one variant and seed (variants.py); stored, and not run again while it is
    --tune NAME                the search for a variant's learning rate
    --table                    everything of the plan that is missing, searches first
    --list                     what is done, what is missing, and what this version does not know
    --latency                  inference time by sparsity, once per track
    --report                   tables and figures out of stored results

Add --track heavy for SmolLM2-135M on R8. --set table.key=value makes a run of its own, for a look or a question;
with --quick it is a run of seconds that stores nothing. Definitions: docs/benchmarks/fleet80.md.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks.fleet80.cases.tracks import TRACKS
from benchmarks.fleet80.cases.variants import VARIANTS
from benchmarks.fleet80.latency import measure_latency
from benchmarks.fleet80.plan import Plan
from benchmarks.fleet80.report.write import write_report
from fedcore.core.config.toml import parse_config
from fedcore.core.errors import FedcoreError

QUICK = (
    "run.rounds=2",
    "strategy.cohort=4",
    "strategy.warmup_rounds=1",
    "strategy.recovery_rounds=0",
    "training.local_steps=2",
    "simulation.chunk_devices=2",
    "data.test_fraction=0.02",
)


def main() -> None:
    """Do what the flags ask for."""
    parser = _parser()
    arguments = parser.parse_args()
    asked = (arguments.strategy, arguments.tune, arguments.table, arguments.list, arguments.latency, arguments.report)
    if not any(asked):
        parser.error("nothing to do: give one of --strategy, --tune, --table, --list, --latency, --report")
    if arguments.report and arguments.set and not arguments.quick:
        parser.error("--report tells of the plan as it is; leave --set away, or look at the results stored under it")
    try:
        if arguments.quick:
            with tempfile.TemporaryDirectory() as place:
                _obey(arguments, Path(place))
        else:
            _obey(arguments, None)
    except FedcoreError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("stopped; the same command goes on after the last closed round")


def _obey(arguments: argparse.Namespace, place: Path | None) -> None:
    overrides = (*(QUICK if place is not None else ()), *arguments.set)
    track = TRACKS[arguments.track]
    parse_config(track.text(), overrides)  # a key that is wrong for every line is a mistake, and no line to leave out
    plan = Plan(track=track, overrides=overrides, say=_say)
    if place is not None:
        plan = plan.below(place)
    if arguments.list:
        plan.tell()
    if arguments.tune:
        plan.tune(VARIANTS[arguments.tune])
    if arguments.strategy:
        plan.run(VARIANTS[arguments.strategy], arguments.seed)
    if arguments.table:
        plan.run_missing()
    if arguments.latency:
        _say(f"wrote {measure_latency(plan)}")
    if arguments.report:
        for path in write_report(plan):
            _say(f"wrote {path}")


def _say(text: str) -> None:
    print(text, flush=True)


def _parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m benchmarks.fleet80", description="Strategies compared on a fleet of 80 virtual devices."
    )
    made.add_argument("--track", choices=tuple(TRACKS), default="fast")
    made.add_argument("--strategy", choices=tuple(VARIANTS), metavar="NAME", help="run one variant (see --list)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--tune", choices=tuple(VARIANTS), metavar="NAME", help="search a variant's learning rate")
    made.add_argument("--table", action="store_true", help="run what is missing of the plan")
    made.add_argument("--list", action="store_true", help="say what is done and what is missing")
    made.add_argument("--latency", action="store_true", help="measure inference time by sparsity, once per track")
    made.add_argument("--report", action="store_true", help="write tables and figures out of stored results")
    made.add_argument("--set", action="append", default=[], metavar="TABLE.KEY=VALUE", help="may be repeated")
    made.add_argument("--quick", action="store_true", help="a run of seconds that stores nothing")
    return made


if __name__ == "__main__":
    main()
