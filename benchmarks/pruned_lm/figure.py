"""The figure: task score, perplexity of general text and speed against the share that was cut."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.drawing import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, RED, SKY, plain_log, save
from benchmarks.pruned_lm.cells import NONE
from benchmarks.pruned_lm.run import Result
from benchmarks.pruned_lm.table import GOALS, Key, by_cell, mean_of

FILE = Path(__file__).parents[1] / "figures" / "pruned_lm.png"
PANELS = (
    ("exact_match", "exact match, kind of thing", False),
    ("general_perplexity", "perplexity of editorials", True),
    ("speedup", "decoding, times dense", False),
)
COLOURS = (BLUE, ORANGE, GREEN, RED, PINK, SKY, BLACK)
MARKS = "osv^Dx*"

Line = tuple[str, str, str, int, tuple[str, ...]]  # criterion, way, recovery, steps, overrides


def draw(results: Iterable[Result], path: Path = FILE) -> Path:
    """Draw what is stored and return the file."""
    cells = by_cell(results)
    lines: dict[Line, list[Key]] = defaultdict(list)
    for key in cells:
        if key[0]:
            lines[key[1:]].append(key)
    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(12, 4.2))
    for axis, (name, title, logarithmic) in zip(axes, PANELS, strict=True):
        for place, (line, keys) in enumerate(sorted(lines.items())):
            start = [key for key in cells if key[0] == 0 and key[3:5] == _start(line)]
            drawn = sorted([*start, *keys])
            points = [(100 * key[0], mean_of(cells[key], name)) for key in drawn]
            style = {"color": COLOURS[place % len(COLOURS)], "marker": MARKS[place // len(COLOURS) % len(MARKS)]}
            axis.plot(*zip(*points, strict=True), label=_label(line), linewidth=1, markersize=4, **style)
        _finish(axis, name, title, logarithmic=logarithmic)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="lower center", ncols=3, fontsize=7, frameon=False)
    save(figure, path, bottom=0.06 + 0.035 * len(lines) / 3)
    return path


def _start(line: Line) -> tuple[str, int]:
    """Return recovery and steps of the dense model that a line begins at."""
    return (NONE if line[2] == NONE else "lora"), line[3]


def _finish(axis: Axes, name: str, title: str, *, logarithmic: bool) -> None:
    if logarithmic:
        axis.set_yscale("log")
        plain_log(axis.yaxis)
    if name == "speedup":
        places = [100 * sparsity for sparsity in GOALS]
        axis.plot(places, [goal.speedup for goal in GOALS.values()], "_", color=GREY, markersize=14)
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("% cut")


def _label(line: Line) -> str:
    criterion, way, recovery, steps, overrides = line
    return ", ".join((way, criterion, recovery, *((f"{steps} steps",) if steps else ()), *overrides))
