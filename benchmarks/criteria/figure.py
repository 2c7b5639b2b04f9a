"""Accuracy against sparsity by criterion, and how well LoRA's gradients stand in for the weights' own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from benchmarks.criteria.correlation import Agreement
from benchmarks.criteria.curves import Point
from benchmarks.drawing import BLACK, BLUE, GREEN, OLIVE, ORANGE, PINK, RED, SKY, save

# Line and marker tell cases apart in grey as well.
STYLES = {
    "lora-taylor": (BLUE, "-", "o"),
    "taylor": (SKY, "-", "s"),
    "magnitude": (ORANGE, "--", "^"),
    "wanda-sp": (GREEN, "--", "v"),
    "flap": (RED, "-", "D"),
    "flap+bias": (RED, ":", "d"),
    "amp": (PINK, "--", "P"),
    "random": (BLACK, ":", "x"),
    "l0": (OLIVE, "-.", "*"),
}
RANK_STYLES = (BLUE, ORANGE, GREEN, PINK)
SIGNAL_LINES = {"same batches": "-", "training": "--"}


def draw_curves(points: Sequence[Point], path: Path) -> None:
    """Write accuracy against realised sparsity, right after the cut and after recovery, to `path`."""
    figure, panels = plt.subplots(1, 2, figsize=(12.5, 5), sharey=True)
    recovery = max(point.recovery_steps for point in points)
    dense = 100 * np.mean([point.accuracy for point in points if point.case == "dense"])
    for panel, steps, title in (
        (panels[0], 0, "right after the cut"),
        (panels[1], recovery, f"after {recovery} steps of recovery"),
    ):
        panel.axhline(dense, color="#777777", linewidth=1, label="not pruned, no recovery")
        for case in dict.fromkeys(point.case for point in points if point.case != "dense"):
            _curve(panel, [point for point in points if point.case == case and point.recovery_steps == steps], case)
        panel.set_title(title)
        panel.set_xlabel("sparsity of heads and FFN channels, %")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("held-back accuracy, %")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="lower center", ncol=5, frameon=False)
    seeds = len({point.seed for point in points})
    figure.suptitle(f"MiniLM on movie reviews, one cut by criterion; mean and range of {seeds} seed(s)")
    save(figure, path, bottom=0.12)


def draw_agreement(found: Sequence[Agreement], path: Path) -> None:
    """Write the rank correlations over warm-up steps, heads and channels apart, to `path`."""
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True)
    for panel, kind in zip(panels, ("heads", "channels"), strict=True):
        for colour, rank in zip(RANK_STYLES, sorted({agreement.rank for agreement in found}), strict=False):
            for signal, line in SIGNAL_LINES.items():
                own = [agreement for agreement in found if agreement.rank == rank and agreement.signal == signal]
                steps = sorted({agreement.steps for agreement in own})
                mean = [
                    np.mean([getattr(agreement, kind) for agreement in own if agreement.steps == step])
                    for step in steps
                ]
                label = f"rank {rank}, {'the same batches' if signal == 'same batches' else 'average of training'}"
                panel.plot(steps, mean, color=colour, linestyle=line, marker="o", markersize=4, label=label)
        panel.axhline(0, color="#777777", linewidth=1)
        panel.set_title(kind)
        panel.set_xlabel("warm-up steps")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("Spearman correlation with the true |w g|")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="lower center", ncol=3, frameon=False)
    figure.suptitle("LoRA's gradients in place of the weights' own, mean over layers")
    save(figure, path, bottom=0.14)


def _curve(panel: Any, points: Sequence[Point], case: str) -> None:
    colour, line, marker = STYLES[case]
    wished = sorted({point.sparsity for point in points})
    by_wish = [[point for point in points if point.sparsity == wish] for wish in wished]
    sparsity = [100 * np.mean([point.realised for point in at_sparsity]) for at_sparsity in by_wish]
    accuracy = [[100 * point.accuracy for point in at_sparsity] for at_sparsity in by_wish]
    mean = [float(np.mean(values)) for values in accuracy]
    spread = [[m - min(values) for m, values in zip(mean, accuracy, strict=True)]]
    spread.append([max(values) - m for m, values in zip(mean, accuracy, strict=True)])
    panel.errorbar(
        sparsity, mean, yerr=spread, color=colour, linestyle=line, marker=marker, markersize=6, capsize=2, label=case
    )
