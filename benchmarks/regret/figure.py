"""Summed regret over rounds, and progress per second, of the chief policies on each fleet."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib import pyplot

from benchmarks.drawing import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, SKY, save
from benchmarks.regret.play import Played

# Line and marker tell cases apart in grey as well.
STYLES: Mapping[str, tuple[str, str]] = {
    "random": (GREY, ":"),
    "best fixed arm": (BLACK, "--"),
    "s-ucb": (ORANGE, ":"),
    "s-ucb, filter": (ORANGE, "-"),
    "thompson, filter": (PINK, "-."),
    "smooth-ucb, filter": (SKY, "-"),
    "linucb, filter": (BLUE, "-"),
    "oracle": (GREEN, "--"),
}


def draw(games: Mapping[str, Mapping[str, Sequence[Played]]], path: Path) -> None:
    """Write the figure; `games` are fleet -> policy -> games, one for each seed."""
    figure, axes = pyplot.subplots(2, len(games), figsize=(4.2 * len(games), 7.6), squeeze=False)
    for column, (fleet, policies) in enumerate(games.items()):
        above, below = axes[0][column], axes[1][column]
        shown = [name for name in STYLES if name in policies]
        for name in shown:
            colour, line = STYLES[name]
            sums = np.cumsum([game.regret for game in policies[name]], axis=1)  # (seeds, rounds)
            rounds = np.arange(1, sums.shape[1] + 1)
            above.plot(rounds, np.median(sums, axis=0), color=colour, linestyle=line, linewidth=1.8, label=name)
            above.fill_between(rounds, sums.min(axis=0), sums.max(axis=0), color=colour, alpha=0.15, linewidth=0)
        above.set(title=f"fleet: {fleet}", xlabel="round", ylim=(0, None))
        rates = [[sum(game.progress) / sum(game.seconds) for game in policies[name]] for name in shown]
        middles = [float(np.median(of_policy)) for of_policy in rates]
        spans = np.array(
            [[m - min(of_policy), max(of_policy) - m] for m, of_policy in zip(middles, rates, strict=True)]
        ).T
        places = np.arange(len(shown))[::-1]
        colours = [STYLES[name][0] for name in shown]
        below.barh(places, middles, xerr=spans, color=colours, error_kw={"ecolor": "#555555", "capsize": 2})
        below.set(xlabel="effective steps per virtual second", yticks=places, yticklabels=shown if column == 0 else [])
        for panel in (above, below):
            panel.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("summed regret (median; seeds shaded)")
    axes[0][-1].legend(frameon=False, fontsize=8, loc="upper left")
    save(figure, path)
