"""Draw a finished run: accuracy by round, sparsity by round and class, and what each class of device got.

    python examples/plot_run.py runs/quickstart run.png

It needs matplotlib and the run's summary.json alone (docs/reference/summary.md).
"""

import json
import sys
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

COLOURS = (
    "#0072b2",
    "#e69f00",
    "#009e73",
    "#cc79a7",
    "#56b4e9",
    "#d55e00",
)  # Okabe and Ito: safe for colour-blind readers
GREY = "#666666"

Summary = dict[str, Any]


def draw(summary: Summary, target: Path) -> None:
    """Write the figure as PNG or SVG, by the ending of `target`."""
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    draw_accuracy(left, summary)
    draw_sparsity(middle, summary)
    draw_exports(right, summary)
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(target, dpi=150)


def draw_accuracy(axes: Axes, summary: Summary) -> None:
    """Accuracy after each round of the model measured then, of every class's at the end, and of words alone."""
    measured = [each for each in summary["rounds"] if each["accuracy"] is not None]
    dense = [(each["round"], each["accuracy"]) for each in measured if each.get("evaluated_class") is None]
    if dense:
        axes.plot(*zip(*dense, strict=True), color=GREY, marker="o", markersize=3, label="global, dense")
    last = summary["rounds"][-1]["round"]
    words = (summary.get("floors") or {}).get("tfidf")
    if words is not None:
        axes.axhline(words["accuracy"], color=GREY, linewidth=0.8, linestyle="--", label="TF-IDF, logistic regression")
    for colour, (name, one) in zip(COLOURS, sorted(summary["classes"].items()), strict=False):
        turns = [(each["round"], each["accuracy"]) for each in measured if each.get("evaluated_class") == name]
        if turns:
            axes.plot(*zip(*turns, strict=True), color=colour, marker="o", markersize=3)
        if one["test"] is not None:
            axes.plot(last + 1, one["test"]["accuracy"], color=colour, marker="s", linestyle="", label=f"export {name}")
    axes.set(title="Accuracy on held-back rows", xlabel="round")
    axes.legend(frameon=False, fontsize=8)


def draw_sparsity(axes: Axes, summary: Summary) -> None:
    """Mean sparsity of the devices of each class, round by round."""
    for colour, name in zip(COLOURS, sorted(summary["classes"]), strict=False):
        points = [
            (each["round"], sum(values) / len(values))
            for each in summary["rounds"]
            if (values := [one["sparsity"] for one in each["results"] if one["class"] == name])
        ]
        axes.plot(*zip(*points, strict=True), color=colour, marker=".", label=name)
    axes.set(title="Sparsity of each class of device", xlabel="round", ylim=(-0.02, None))
    axes.legend(frameon=False, fontsize=8)


def draw_exports(axes: Axes, summary: Summary) -> None:
    """Parameters, latency and size of every export, as shares of the dense model's."""
    classes = sorted((name, one) for name, one in summary["classes"].items() if one["parameters"] is not None)
    bars = ("parameters", "latency", "size")
    for place, (colour, (name, one)) in enumerate(zip(COLOURS, classes, strict=False)):
        shares = (
            one["parameters"] / one["dense_parameters"],
            one["latency_ratio"],
            one["size_bytes"] / one["dense_size_bytes"],
        )
        width = 0.8 / len(classes)
        spots = [bar + (place - (len(classes) - 1) / 2) * width for bar in range(len(bars))]
        label = f"{name}, {one['realised_sparsity']:.0%} of the groups removed"
        axes.bar_label(axes.bar(spots, shares, width, color=colour, label=label), fmt="%.2f", fontsize=7)
    axes.axhline(1.0, color=GREY, linewidth=0.8, linestyle="--")
    axes.set(title="Exports, as shares of the dense model", xticks=range(len(bars)), xticklabels=bars, ylim=(0, 1.45))
    axes.legend(frameon=False, fontsize=8, loc="upper right")


if __name__ == "__main__":
    folder, picture = map(Path, sys.argv[1:])
    draw(json.loads((folder / "summary.json").read_text(encoding="utf-8")), picture)
