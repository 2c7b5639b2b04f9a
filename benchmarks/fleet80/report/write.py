"""benchmarks/results/fleet80/REPORT-TRACK.md and the figures, out of stored results alone."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fleet80.latency import FILE as LATENCY
from benchmarks.fleet80.plan import Plan
from benchmarks.fleet80.report.crossing import WINDOW, crossing
from benchmarks.fleet80.report.entries import Entry, entries
from benchmarks.fleet80.report.figures import draw_all
from benchmarks.fleet80.report.tables import (
    LINES,
    OURS,
    REFERENCE,
    difference_table,
    final_table,
    model_table,
    split_table,
    table,
    target_table,
)


def write_report(plan: Plan) -> list[Path]:
    """Write the page of the plan's track and its figures; returns what was written. Nothing is run."""
    found, stale = entries(plan)
    page = plan.results / f"REPORT-{plan.track.name}.md"
    if not found:
        plan.say(f"nothing is stored of the {plan.track.name} track; run it first (--table)")
        return []
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n\n".join(_sections(plan, found, stale)) + "\n", encoding="utf-8")
    return [page, *draw_all(plan.track, found, plan.figures)]


def _sections(plan: Plan, found: Sequence[Entry], stale: int) -> Iterator[str]:
    strategies = [entry for entry in found if entry.group == "strategies"]
    questions = [entry for entry in found if entry.group != "strategies"]
    first = found[0].runs[0]
    yield f"# Fleet of 80, {plan.track.name} track"
    yield (
        f"Written by `python -m benchmarks.fleet80 --track {plan.track.name} --report` from "
        f"{sum(len(entry.results) for entry in found)} stored results ({stale} of other configurations left out). "
        f"{len(first['rounds'])} rounds, {first['rounds'][0]['devices']} devices a round, "
        f"{next(iter(first['final'].values()))['rows']} held-back rows. Definitions: docs/benchmarks/fleet80.md. "
        "± is the standard deviation over seeds; without it there was one seed."
    )
    yield "## What every strategy ends with\n\n" + final_table(strategies)
    yield (
        "`accuracy`: the delivered model on all held-back rows; `memory`: mean peak of live tensors in a training step "
        f"of the last round's devices, and as a multiple of {REFERENCE}'s."
    )
    ours = [name for name in LINES if any(entry.name == name for entry in strategies)]
    yield "## Accuracy against FedSpine's"
    for name in ours:
        yield difference_table(strategies, of=name)
    yield (
        "Paired bootstrap over the same test rows and seeds, 10,000 resamples. A difference is claimed where the "
        "interval excludes 0. With one seed the interval tells nothing of other seeds."
    )
    for target in plan.track.targets:
        yield f"## Virtual time to {100 * target:.0f} %\n\n" + target_table(strategies, target)
    highest = _highest_common(plan.track.targets, strategies)
    if highest is not None:
        yield (
            f"## Where the time saved to {100 * highest:.0f} % comes from\n\n"
            + split_table(strategies, highest)
            + f"\n\nPer cent of {REFERENCE}'s virtual time to the target, seeds on which both reach it."
        )
    yield f"Time to a target: the running mean of {WINDOW} rounds of the delivered model's accuracy reaches it."
    yield "## Models by sparsity\n\n" + model_table(found)
    if questions:
        asked = [*(entry for entry in strategies if entry.name == OURS), *questions]
        yield "## Questions\n\n" + final_table(asked)
        yield "### Their accuracy against FedSpine's\n\n" + difference_table(asked)
        if highest is not None:
            yield f"### Their virtual time to {100 * highest:.0f} %\n\n" + target_table(
                [*(entry for entry in strategies if entry.name == REFERENCE), *asked], highest
            )
    measured = plan.results / plan.track.name / LATENCY
    if measured.is_file():
        yield "## Inference\n\n" + _latency_table(json.loads(measured.read_text(encoding="utf-8")))


def _highest_common(targets: Sequence[float], strategies: Sequence[Entry]) -> float | None:
    """The highest target that a line of FedSpine's and the reference both reach on a seed."""

    def reached(names: Sequence[str], target: float) -> bool:
        runs = [run for entry in strategies if entry.name in names for run in entry.runs]
        return any(crossing(run["rounds"], target) for run in runs)

    return max((target for target in targets if reached(LINES, target) and reached((REFERENCE,), target)), default=None)


def _latency_table(stored: dict[str, Any]) -> str:
    rows = [
        [f"{row['sparsity']:.2f}", f"{1000 * row['latency_s']:.1f}", f"{row['ratio']:.3f}"] for row in stored["rows"]
    ]
    return table(["sparsity", "ms a batch", "of dense"], rows) + (
        f"\n\nMedian of interleaved passes over {stored['batch']} rows of {stored['tokens']} tokens, adapter merged, "
        "on one machine's processor."
    )
