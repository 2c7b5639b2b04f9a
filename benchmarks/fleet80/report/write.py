"""benchmarks/results/fleet80/REPORT-TRACK.md and the figures, out of stored results alone."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.fleet80.cases.goals import Goal
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
    loss_table,
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
    first, goals = found[0].runs[0], plan.track.goals
    yield f"# Fleet of 80, {plan.track.name} track"
    yield (
        f"Written by `python -m benchmarks.fleet80 --track {plan.track.name} --report` from "
        f"{sum(len(entry.results) for entry in found)} stored results ({stale} of other configurations left out). "
        f"{len(first['rounds'])} rounds, {first['rounds'][0]['devices']} devices a round, "
        f"{next(iter(first['final'].values()))['rows']} held-back rows. Definitions: docs/benchmarks/fleet80.md. "
        "± is the standard deviation over seeds; without it there was one seed."
    )
    yield "## What every strategy ends with\n\n" + final_table(strategies, goals)
    yield (
        f"`{goals[0].title}`: the delivered model on all held-back rows; `memory`: mean peak of live tensors in a "
        f"training step of the last round's devices, and as a multiple of {REFERENCE}'s."
    )
    ours = [name for name in LINES if any(entry.name == name for entry in strategies)]
    writes = any("losses" in model for model in first["final"].values())
    yield f"## {'Exact match and loss' if writes else 'Accuracy'} against FedSpine's"
    for name in ours:
        yield difference_table(strategies, of=name)
        if writes:
            yield loss_table(strategies, of=name)
    yield (
        "Paired bootstrap over the same test rows and seeds, 10,000 resamples. A difference is claimed where the "
        "interval excludes 0. With one seed the interval tells nothing of other seeds."
    )
    for goal in goals:
        for target in goal.targets:
            yield f"## Virtual time to {goal.target_text(target)}\n\n" + target_table(strategies, goal, target)
    goal = goals[0]
    hardest = _hardest_common(goal, strategies)
    if hardest is not None:
        yield (
            f"## Where the time saved to {goal.target_text(hardest)} comes from\n\n"
            + split_table(strategies, goal, hardest)
            + f"\n\nPer cent of {REFERENCE}'s virtual time to the target, seeds on which both reach it."
        )
    yield f"Time to a target: the running mean of {WINDOW} rounds of the delivered model's {goal.title} reaches it."
    yield "## Models by sparsity\n\n" + model_table(found, goals)
    if questions:
        asked = [*(entry for entry in strategies if entry.name == OURS), *questions]
        yield "## Questions\n\n" + final_table(asked, goals)
        yield f"### Their {goal.title} against FedSpine's\n\n" + difference_table(asked)
        if hardest is not None:
            yield f"### Their virtual time to {goal.target_text(hardest)}\n\n" + target_table(
                [*(entry for entry in strategies if entry.name == REFERENCE), *asked], goal, hardest
            )
    measured = plan.results / plan.track.name / LATENCY
    if measured.is_file():
        yield "## Inference\n\n" + _latency_table(json.loads(measured.read_text(encoding="utf-8")))


def _hardest_common(goal: Goal, strategies: Sequence[Entry]) -> float | None:
    """The hardest target that a line of FedSpine's and the reference both reach on a seed."""

    def reached(names: Sequence[str], target: float) -> bool:
        runs = [run for entry in strategies if entry.name in names for run in entry.runs]
        return any(crossing(run["rounds"], goal, target) for run in runs)

    common = [target for target in goal.targets if reached(LINES, target) and reached((REFERENCE,), target)]
    return common[-1] if common else None


def _latency_table(stored: dict[str, Any]) -> str:
    rows = [
        [f"{row['sparsity']:.2f}", f"{1000 * row['latency_s']:.1f}", f"{row['ratio']:.3f}"] for row in stored["rows"]
    ]
    return table(["sparsity", "ms a batch", "of dense"], rows) + (
        f"\n\nMedian of interleaved passes over {stored['batch']} rows of {stored['tokens']} tokens, adapter merged, "
        "on one machine's processor."
    )
