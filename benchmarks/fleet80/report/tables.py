"""Stored results as Markdown tables."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from statistics import fmean, stdev
from typing import Any

from benchmarks.fleet80.cases.goals import Goal
from benchmarks.fleet80.report.bootstrap import Scores, paired_difference
from benchmarks.fleet80.report.crossing import Crossing, crossing
from benchmarks.fleet80.report.entries import Entry, delivered
from benchmarks.fleet80.rounds import PARTS

OURS, REFERENCE = "fedspine", "fedit"
# FedSpine; with steps of its own for every device; and hand-outs of kept rows as well; those for twice the rounds; cut
# by the track's schedule
LINES = (OURS, "fedspine-steps", "fedspine-kept", "fedspine-long", "fedspine-gradual")
NONE = "-"

Column = Callable[[Entry], str]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose first column is text and whose others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def spread(values: Sequence[float], form: Callable[[float], str]) -> str:
    """Return mean ± standard deviation, the mean alone of one value."""
    if not values:
        return NONE
    mean = form(fmean(values))
    return mean if len(values) == 1 else f"{mean} ± {form(stdev(values))}"


def final_table(entries: Sequence[Entry], goals: Sequence[Goal]) -> str:
    """Return what every variant ends with."""
    reference = next((entry for entry in entries if entry.name == REFERENCE), None)
    memory = None if reference is None else fmean(map(_memory, reference.runs))
    columns: dict[str, Column] = {
        "variant": lambda entry: entry.name,
        "seeds": lambda entry: str(len(entry.runs)),
        "rounds": lambda entry: str(len(entry.runs[0]["rounds"])),
        "virtual s": lambda entry: spread([result["rounds"][-1]["closed_s"] for result in entry.runs], _whole),
        "rate": lambda entry: f"{entry.runs[0]['learning_rate']:g}",
        **{goal.head: partial(_ends, goal=goal) for goal in goals},
        **({"AUC": _auc} if any(_has_auc(final) for entry in entries for final in _finals(entry)) else {}),
        **{f"dense {goal.head}" if len(goals) > 1 else "dense %": partial(_ends_dense, goal=goal) for goal in goals},
        "sparsity": lambda entry: spread([delivered(final, "sparsity") for final in _finals(entry)], _two),
        "parameters M": lambda entry: spread([delivered(final, "parameters") / 1e6 for final in _finals(entry)], _two),
        "memory MiB": lambda entry: spread([_memory(result) for result in entry.runs], _whole),
        "x": lambda entry: NONE if memory is None else _two(fmean(map(_memory, entry.runs)) / memory),
    }
    return table(list(columns), [[column(entry) for column in columns.values()] for entry in entries])


def target_table(entries: Sequence[Entry], goal: Goal, target: float) -> str:
    """Return virtual time, rounds and bytes to a target, and how often faster than FedIT on the same seeds."""
    times = {entry.name: _crossings(entry, goal, target) for entry in entries}
    rows = []
    for entry in entries:
        reached = [arrival for arrival in times[entry.name].values() if arrival is not None]
        rows.append(
            [
                entry.name,
                f"{len(reached)} of {len(entry.results)}",
                spread([arrival.seconds for arrival in reached], _whole),
                spread([float(arrival.round) for arrival in reached], _one),
                spread([arrival.megabytes for arrival in reached], _whole),
                *(spread([_mean_part(reached, part)], _whole) if reached else NONE for part in PARTS),
                spread(speedups(times[entry.name], times.get(REFERENCE, {})), _two),
            ]
        )
    head = ["variant", "reached", "virtual s", "rounds", "MB", "waiting s", "download s", "compute s", "upload s"]
    return table([*head, f"x {REFERENCE}"], rows)


def speedups(ours: dict[int, Crossing | None], reference: dict[int, Crossing | None]) -> list[float]:
    """Return how often faster, for every seed on which both reach the target."""
    return [
        theirs.seconds / mine.seconds
        for seed, mine in ours.items()
        if mine is not None and (theirs := reference.get(seed)) is not None
    ]


def split_table(entries: Sequence[Entry], goal: Goal, target: float) -> str:
    """Return where the time that a variant saves over FedIT comes from, in per cent of FedIT's time to the target."""
    times = {entry.name: _crossings(entry, goal, target) for entry in entries}
    rows = []
    for name, mine in times.items():
        pairs = [
            (one, other)
            for seed, one in mine.items()
            if name != REFERENCE and one is not None and (other := times.get(REFERENCE, {}).get(seed)) is not None
        ]
        if pairs:
            whole = sum(other.seconds for _, other in pairs)
            saved = [sum(other.parts[part] - one.parts[part] for one, other in pairs) / whole for part in PARTS]
            rows.append([name, *(_percent(share) for share in saved), _percent(sum(saved))])
    return table(["variant", "waiting", "download", "compute", "upload", "all"], rows)


def difference_table(entries: Sequence[Entry], of: str = OURS) -> str:
    """Return the share of rows that the variant `of` has right less every other's, on the same rows and seeds."""
    return _differences(entries, of, "points", lambda entry, seeds: 100 * entry.scores(seeds))


def loss_table(entries: Sequence[Entry], of: str = OURS) -> str:
    """Return the loss per token of the variant `of` less every other's, on the same rows and seeds."""
    return _differences(entries, of, "nats a token", lambda entry, seeds: entry.losses(seeds))


def _differences(entries: Sequence[Entry], of: str, unit: str, scores: Callable[[Entry, Sequence[int]], Scores]) -> str:
    ours = next((entry for entry in entries if entry.name == of), None)
    rows = []
    for entry in entries:
        seeds = sorted(set(entry.results) & set(ours.results)) if ours is not None else []
        if ours is None or entry is ours or not seeds:
            continue
        found = paired_difference(scores(ours, seeds), scores(entry, seeds))
        interval = f"{found.low:+.2f} to {found.high:+.2f}"
        claim = "claimed" if found.claimed else "not told apart"
        prunes = "yes" if entry.prunes else "no"
        rows.append([entry.name, prunes, str(len(seeds)), f"{found.mean:+.2f}", interval, claim])
    return table([f"{of} minus", "prunes", "seeds", unit, "95 % interval", "difference"], rows)


def model_table(entries: Sequence[Entry], goals: Sequence[Goal]) -> str:
    """Return every measured model of the variants that prune: exported classes and cuts of one removal order."""
    rows = []
    for entry in entries:
        for name in entry.runs[0]["final"] if entry.prunes else ():
            models: list[dict[str, Any]] = [result["final"][name] for result in entry.runs if name in result["final"]]
            rows.append(
                [
                    entry.name,
                    name,
                    spread([model["sparsity"] for model in models], _two),
                    *(spread([model[goal.figure] for model in models], goal.text) for goal in goals),
                    spread([model["loss"] for model in models], _three),
                    spread([model["parameters"] / 1e6 for model in models], _two),
                ]
            )
    return table(["variant", "model", "sparsity", *(goal.head for goal in goals), "loss", "parameters M"], rows)


def _finals(entry: Entry) -> list[dict[str, Any]]:
    return [result["final"] for result in entry.runs]


def _ends(entry: Entry, *, goal: Goal) -> str:
    return spread([delivered(final, goal.figure) for final in _finals(entry)], goal.text)


def _ends_dense(entry: Entry, *, goal: Goal) -> str:
    return spread([final["dense"][goal.figure] for final in _finals(entry)], goal.text)


def _auc(entry: Entry) -> str:
    return spread([delivered(final, "auc") for final in _finals(entry) if _has_auc(final)], _three)


def _crossings(entry: Entry, goal: Goal, target: float) -> dict[int, Crossing | None]:
    return {seed: crossing(result["rounds"], goal, target) for seed, result in entry.results.items()}


def _mean_part(reached: Sequence[Crossing], part: str) -> float:
    return fmean(arrival.parts[part] for arrival in reached)


def _memory(result: dict[str, Any]) -> float:
    """Mean over the devices of the last round of the peak of live tensors in a training step, MiB."""
    return float(result["rounds"][-1]["peak_memory_mb"])


def _has_auc(final: dict[str, Any]) -> bool:
    return all(model.get("auc") is not None for model in final.values())


def _percent(value: float) -> str:
    return f"{100 * value:.2f}"


def _whole(value: float) -> str:
    return f"{value:.0f}"


def _one(value: float) -> str:
    return f"{value:.1f}"


def _two(value: float) -> str:
    return f"{value:.2f}"


def _three(value: float) -> str:
    return f"{value:.3f}"
