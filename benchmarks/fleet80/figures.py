"""Figures for people: units, names at the ends of lines, colours the colour-blind tell apart (Okabe and Ito 2008)."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator, StrMethodFormatter

from benchmarks.drawing import BLACK, BLUE, GREEN, ORANGE, PINK, RED, SKY
from benchmarks.fleet80.crossing import WINDOW, crossing, smoothed
from benchmarks.fleet80.entries import Entry
from benchmarks.fleet80.tables import REFERENCE, speedups
from benchmarks.fleet80.tracks import Track

COLOURS = {
    "fedspine": RED,
    "fedspine-steps": ORANGE,
    "fedit": BLACK,
    "uniform": BLUE,
    "fedit-r2-h20": PINK,
    "oracle": GREEN,
    "oracle-steps": GREEN,
    "hetlora": SKY,
}
CLASS_COLOURS = {"tx2": BLUE, "nx": ORANGE, "agx": GREEN}
MINOR = "#9A9A9A"
DOTS_PER_INCH = 150

Point = tuple[float, float]


def draw_all(track: Track, entries: Sequence[Entry], folder: Path) -> list[Path]:
    """Draw every figure that the results suffice for, and return the files."""
    folder.mkdir(parents=True, exist_ok=True)
    strategies = [each for each in entries if each.group == "strategies"]
    drawings: Mapping[str, Callable[[], bool]] = {
        "accuracy": lambda: _accuracy(track, strategies),
        "waiting": lambda: _waiting(strategies),
        "arms": lambda: _arms([each for each in strategies if each.name in ("fedspine", "fedspine-steps")]),
        "speedup": lambda: _speedup(track, strategies),
    }
    written = []
    for name, draw in drawings.items():
        if draw():
            path = folder / f"fleet80-{track.name}-{name}.png"
            pyplot.savefig(path, dpi=DOTS_PER_INCH, bbox_inches="tight", metadata={"Software": None})
            written.append(path)
        pyplot.close("all")
    return written


def _accuracy(track: Track, entries: Sequence[Entry]) -> bool:
    """Accuracy over virtual time, the running mean that decides when a target is reached."""
    lines = {each.name: _mean_line([_accuracy_points(run) for run in each.each]) for each in entries}
    axes = _axes("virtual time (s)", f"accuracy of the delivered model (%), mean of {WINDOW} rounds")
    _lines(axes, {name: points for name, points in lines.items() if points})
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    for target in track.targets:
        axes.axhline(100 * target, color="#D0D0D0", linewidth=0.7, linestyle=":", zorder=0)
    return any(lines.values())


def _waiting(entries: Sequence[Entry]) -> bool:
    """Mean seconds a counted device waits for the slowest of its round."""
    lines = {each.name: _mean_line([_waiting_points(run) for run in each.each]) for each in entries}
    axes = _axes("round", "waiting per round, mean over devices (s)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _lines(axes, lines)
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
                points = _mean_line([_arm_points(run, name, key) for run in entry.each])
                axes.plot(*_xy(points), color=colour, marker="o", markersize=3, linewidth=1.4, label=name.upper())
            axes.set_ylabel(label if column == 0 else "")
            axes.grid(color="#EEEEEE")
        grid[0][column].set_title(entry.name)
        grid[-1][column].set_xlabel("round")
        grid[-1][column].xaxis.set_major_locator(MaxNLocator(integer=True))
    grid[0][0].legend(frameon=False)
    return True


def _speedup(track: Track, entries: Sequence[Entry]) -> bool:
    """Bars: how often faster than FedIT to the highest target that it reaches itself."""
    reference = next((each for each in entries if each.name == REFERENCE), None)
    if reference is None:
        return False
    known = [each for each in track.targets if any(crossing(run["rounds"], each) for run in reference.each)]
    if not known:
        return False
    target = max(known)
    times = {
        each.name: {seed: crossing(run["rounds"], target) for seed, run in each.results.items()} for each in entries
    }
    bars = {name: fmean(found) for name, each in times.items() if (found := speedups(each, times[REFERENCE]))}
    ordered = sorted(bars, key=bars.__getitem__)
    axes = _axes(f"times faster than {REFERENCE} to {100 * target:.0f} % (virtual time)", "")
    shown = axes.barh(ordered, [bars[name] for name in ordered], color=[COLOURS.get(name, MINOR) for name in ordered])
    axes.bar_label(shown, fmt=" %.2f")
    axes.axvline(1.0, color=BLACK, linewidth=0.8)
    axes.margins(x=0.12)
    return True


def _axes(x_label: str, y_label: str) -> Axes:
    _, axes = pyplot.subplots(figsize=(9.0, 5.5))
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(color="#EEEEEE")
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return axes


def _lines(axes: Axes, lines: Mapping[str, Sequence[Point]]) -> None:
    """Draw the named lines in colour, the others in grey behind them, and name each at the right edge."""
    for name, points in sorted(lines.items(), key=lambda each: each[0] in COLOURS):
        major = name in COLOURS
        axes.plot(
            *_xy(points), color=COLOURS.get(name, MINOR), linewidth=2.0 if major else 0.9, zorder=3 if major else 2
        )
    low, high = axes.get_ylim()
    ends = sorted((points[-1][1], name) for name, points in lines.items() if points)
    heights = spread_out([height for height, _ in ends], (high - low) / 26)
    above = max(0.0, heights[-1] - high) if heights else 0.0
    heights = [height - above for height in heights]
    for (end, name), height in zip(ends, heights, strict=True):
        axes.annotate(
            name,
            xy=(lines[name][-1][0], end),
            xytext=(1.02, height),
            textcoords=axes.get_yaxis_transform(),
            color=COLOURS.get(name, "#6A6A6A"),
            fontsize=8.5,
            va="center",
            arrowprops={"arrowstyle": "-", "color": COLOURS.get(name, MINOR), "linewidth": 0.5, "alpha": 0.6},
        )
    axes.set_ylim(low, high)


def spread_out(heights: Sequence[float], gap: float) -> list[float]:
    """Return ascending heights moved apart to `gap` at least, around their own middle."""
    placed: list[float] = []
    for height in heights:
        placed.append(max(height, placed[-1] + gap) if placed else height)
    shift = fmean(heights) - fmean(placed) if placed else 0.0
    return [height + shift for height in placed]


def _mean_line(runs: Sequence[Sequence[Point]]) -> list[Point]:
    """Mean of x and of y over the runs, point by point, as far as all of them go; over those that have a y."""
    return [(fmean(x for x, _ in each), _known_mean([y for _, y in each])) for each in zip(*runs, strict=False)]


def _known_mean(values: Sequence[float]) -> float:
    known = [each for each in values if not math.isnan(each)]
    return fmean(known) if known else math.nan


def _accuracy_points(run: Mapping[str, Any]) -> list[Point]:
    return [(each["closed_s"], 100 * accuracy) for each, accuracy in smoothed(run["rounds"])]


def _waiting_points(run: Mapping[str, Any]) -> list[Point]:
    return [(float(each["round"]), each["wait_s"]) for each in run["rounds"]]


def _arm_points(run: Mapping[str, Any], kind: str, key: str) -> list[Point]:
    """A class's mean arm in every round; nan where none of it took part, so that lines of seeds stay aligned."""
    scale = 100.0 if key == "sparsity" else 1.0
    return [(float(each["round"]), scale * each["classes"].get(kind, {}).get(key, math.nan)) for each in run["rounds"]]


def _xy(points: Sequence[Point]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]
