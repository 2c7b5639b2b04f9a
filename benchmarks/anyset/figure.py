"""The figure: FedSpine's export less another line's, one dot for a set and a skew, one panel for a comparison."""

from collections.abc import Iterable
from pathlib import Path

from matplotlib import pyplot
from matplotlib.axes import Axes

from benchmarks.anyset.paired import COMPARISONS, FEDSPINE, Key, differences, interval
from benchmarks.anyset.run import Result
from benchmarks.drawing import BLUE, GREEN, GREY, ORANGE, RED, save

FILE = Path(__file__).parents[1] / "figures" / "anyset.png"
COLOURS = {"iid": BLUE, "1.0": GREEN, "0.5": ORANGE, "0.1": RED}
WIDEST = 12.0  # points; what lies beyond is drawn at the edge


def draw(results: Iterable[Result], path: Path = FILE) -> Path:
    """Draw the comparisons that are stored and return the file."""
    stored = list(results)
    drawn = [comparison for comparison in COMPARISONS if comparison.ours == FEDSPINE and not comparison.skews]
    found = {comparison: differences(stored, comparison) for comparison in drawn}
    shown = [comparison for comparison, cells in found.items() if cells]
    skews = tuple(COLOURS)
    keys = sorted(
        {key for cells in found.values() for key in cells if key[1] in COLOURS},
        key=lambda key: (key[0], skews.index(key[1])),
        reverse=True,
    )
    figure, axes = pyplot.subplots(1, len(shown), figsize=(2.6 * len(shown) + 1.4, 0.26 * len(keys) + 1.4), sharey=True)
    for axis, comparison in zip(axes, shown, strict=True):
        axis.axvline(0, color=GREY, linewidth=1)
        if comparison.goal is not None:
            axis.axvline(comparison.goal, color=GREY, linewidth=1, linestyle="dotted")
        for place, key in enumerate(keys):
            if key in found[comparison]:
                _dot(axis, place, key, found[comparison][key])
        axis.set_title(f"less {comparison.name}", fontsize=9)
        axis.set_xlabel("points of accuracy")
        axis.set_xlim(-WIDEST, WIDEST)
    axes[0].set_yticks(range(len(keys)), [f"{name}, {_skew(skew)}" for name, skew in keys], fontsize=8)
    figure.suptitle("FedSpine's export at 35 %, less that of another method; whiskers: 95 % over seeds", fontsize=10)
    save(figure, path)
    return path


def _dot(axis: Axes, place: int, key: Key, points: list[float]) -> None:
    centre, half = interval(points)
    centre = min(WIDEST, max(-WIDEST, centre))
    whisker = half if len(points) > 1 else 0.0
    axis.errorbar(centre, place, xerr=whisker, fmt="o", color=COLOURS[key[1]], markersize=4, linewidth=1)


def _skew(skew: str) -> str:
    return "IID" if skew == "iid" else f"Dirichlet {skew}"
