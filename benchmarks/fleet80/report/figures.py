"""Figures for people: units, legends, colours the colour-blind tell apart (Okabe and Ito 2008)."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from benchmarks.drawing import BLACK, BLUE, GREEN, GREY, OLIVE, ORANGE, PINK, RED, SKY, plain_log
from benchmarks.fleet80.cases.goals import Goal
from benchmarks.fleet80.cases.tracks import Track
from benchmarks.fleet80.report.crossing import WINDOW, crossing, smoothed
from benchmarks.fleet80.report.entries import Entry
from benchmarks.fleet80.report.tables import LINES, REFERENCE, speedups

COLOURS = {
    "fedspine-kept": RED,
    "fedspine-steps": ORANGE,
    "fedspine": OLIVE,
    "oracle-kept": GREEN,
    "fedit": BLACK,
    "fedit-r2": PINK,
    "uniform": BLUE,
    "hetlora": SKY,
}
ARMS = tuple(name for name in LINES if name not in ("fedspine-steps", "fedspine-long"))  # nearly those of fedspine-kept
FEW = 9  # lines that one panel holds
OURS_FIRST = ("fedspine-kept", "fedspine-steps", "fedspine")  # drawn beside the others
# The others': colour and dash together tell them apart.
STYLES = tuple(
    (colour, dash) for dash in ("-", "--", ":", "-.") for colour in (BLACK, BLUE, GREEN, PINK, SKY, OLIVE, GREY)
)
CLASS_COLOURS = {"tx2": BLUE, "nx": ORANGE, "agx": GREEN}
MINOR = "#9A9A9A"
DOTS_PER_INCH = 150

Point = tuple[float, float]


def draw_all(track: Track, entries: Sequence[Entry], folder: Path) -> list[Path]:
    """Draw every figure that the results suffice for, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    strategies = [entry for entry in entries if entry.group == "strategies"]
    drawings: Mapping[str, Callable[[], bool]] = {
        track.goals[0].figure: lambda: _progress(track.goals[0], strategies),
        "waiting": lambda: _waiting(strategies),
        "arms": lambda: _arms([entry for entry in strategies if entry.name in ARMS]),
        "speedup": lambda: _speedup(track.goals[0], strategies),
    }
    written = []
    for name, draw in drawings.items():
        if draw():
            path = folder / f"fleet80-{track.name}-{name}.png"
            pyplot.savefig(path, dpi=DOTS_PER_INCH, bbox_inches="tight", metadata={"Software": None})
            written.append(path)
        pyplot.close("all")
    return written


def _progress(goal: Goal, entries: Sequence[Entry]) -> bool:
    """The goal's figure over virtual time, the running mean that decides when a target is reached."""
    lines = {entry.name: _mean_line([_goal_points(run, goal) for run in entry.runs]) for entry in entries}
    unit = " (%)" if goal.share else ""
    label = f"{goal.title} of the delivered model{unit}, mean of {WINDOW} rounds"
    for axes in _lines("virtual time (s)", label, lines):
        axes.set_xscale("log")
        plain_log(axes.xaxis)
        if goal.falls:
            axes.set_yscale("log")
            plain_log(axes.yaxis)
        for target in goal.targets:
            axes.axhline(goal.shown(target), color="#D0D0D0", linewidth=0.7, linestyle=":", zorder=0)
    return any(lines.values())


def _waiting(entries: Sequence[Entry]) -> bool:
    """Mean seconds a counted device waits for the slowest of its round."""
    lines = {entry.name: _mean_line([_waiting_points(run) for run in entry.runs]) for entry in entries}
    for axes in _lines("round", "waiting per round, mean over devices (s)", lines):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_yscale("log")
        plain_log(axes.yaxis)
    return bool(lines)


def _arms(entries: Sequence[Entry]) -> bool:
    """Sparsity, rank and local steps by class over the rounds, mean over devices and seeds."""
    if not entries:
        return False
    kinds = {"sparsity": "sparsity (%)", "rank": "LoRA rank", "steps": "local steps"}
    _, grid = pyplot.subplots(
        len(kinds), len(entries), figsize=(6.0 * len(entries), 7.5), sharex=True, sharey="row", squeeze=False
    )
    for column, entry in enumerate(entries):
        for row, (key, label) in enumerate(kinds.items()):
            axes = grid[row][column]
            for name, colour in CLASS_COLOURS.items():
                points = _mean_line([_arm_points(run, name, key) for run in entry.runs])
                axes.plot(*_xy(points), color=colour, marker="o", markersize=3, linewidth=1.4, label=name.upper())
            axes.set_ylabel(label if column == 0 else "")
            axes.grid(color="#EEEEEE")
        grid[0][column].set_title(entry.name)
        grid[-1][column].set_xlabel("round")
        grid[-1][column].xaxis.set_major_locator(MaxNLocator(integer=True))
    grid[0][0].legend(frameon=False)
    return True


def _speedup(goal: Goal, entries: Sequence[Entry]) -> bool:
    """Bars: how often faster than FedIT to the hardest target that it reaches itself."""
    reference = next((entry for entry in entries if entry.name == REFERENCE), None)
    if reference is None:
        return False
    known = [target for target in goal.targets if any(crossing(run["rounds"], goal, target) for run in reference.runs)]
    if not known:
        return False
    target = known[-1]
    times = {
        entry.name: {seed: crossing(run["rounds"], goal, target) for seed, run in entry.results.items()}
        for entry in entries
    }
    bars = {name: fmean(found) for name, crossings in times.items() if (found := speedups(crossings, times[REFERENCE]))}
    ordered = sorted(bars, key=bars.__getitem__)
    axes = _axes(f"times faster than {REFERENCE} to {goal.target_text(target)} (virtual time)", "")
    shown = axes.barh(ordered, [bars[name] for name in ordered], color=[COLOURS.get(name, MINOR) for name in ordered])
    axes.bar_label(shown, fmt=" %.2f")
    axes.axvline(1.0, color=BLACK, linewidth=0.8)
    axes.margins(x=0.12)
    return True


def _axes(x_label: str, y_label: str) -> Axes:
    _, axes = pyplot.subplots(figsize=(9.0, 5.5))
    _tidy(axes, x_label, y_label)
    return axes


def _tidy(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(color="#EEEEEE")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _lines(x_label: str, y_label: str, lines: Mapping[str, Sequence[Point]]) -> list[Axes]:
    """Draw lines in two panels of one scale: those that matter most, and all others beside FedSpine's."""
    drawn = {name: points for name, points in lines.items() if points}
    first = {name: points for name, points in drawn.items() if name in COLOURS}
    panels = [first, {name: points for name, points in drawn.items() if name not in COLOURS}]
    if not all(panels) or len(drawn) <= FEW:
        panels = [drawn]
    _, grid = pyplot.subplots(1, len(panels), figsize=(7.5 * len(panels) + 1.5, 5.5), sharey=True, squeeze=False)
    shared = next((name for name in OURS_FIRST if name in drawn), None)
    for number, (axes, shown) in enumerate(zip(grid[0], panels, strict=True)):
        _tidy(axes, x_label, y_label if number == 0 else "")
        if number and shared is not None:
            axes.plot(*_xy(drawn[shared]), color=COLOURS[shared], linewidth=2.0, label=shared)
        others = cycle(STYLES)
        for name, points in shown.items():
            colour, dash = (COLOURS[name], "-") if name in COLOURS else next(others)
            axes.plot(*_xy(points), color=colour, linestyle=dash, linewidth=2.0 if name in COLOURS else 1.3, label=name)
        axes.legend(frameon=False, fontsize=8.5, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncol=5)
    return list(grid[0])


def _mean_line(runs: Sequence[Sequence[Point]]) -> list[Point]:
    """Mean of x and of y over the runs, point by point, as far as all of them go; over those that have a y."""
    return [(fmean(x for x, _ in points), _known_mean([y for _, y in points])) for points in zip(*runs, strict=False)]


def _known_mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else math.nan


def _goal_points(run: Mapping[str, Any], goal: Goal) -> list[Point]:
    return [(record["closed_s"], goal.shown(value)) for record, value in smoothed(run["rounds"], goal)]


def _waiting_points(run: Mapping[str, Any]) -> list[Point]:
    return [(float(record["round"]), record["wait_s"]) for record in run["rounds"]]


def _arm_points(run: Mapping[str, Any], kind: str, key: str) -> list[Point]:
    """A class's mean arm in every round; nan where none of it took part, so that lines of seeds stay aligned."""
    scale = 100.0 if key == "sparsity" else 1.0
    return [
        (float(record["round"]), scale * record["classes"].get(kind, {}).get(key, math.nan)) for record in run["rounds"]
    ]


def _xy(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
