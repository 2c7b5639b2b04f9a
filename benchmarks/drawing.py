"""What figures for people share: colours that the colour-blind tell apart, no window, and how they are saved."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

# Okabe and Ito's (2008); lines and markers tell cases apart in grey as well.
BLACK, GREY = "#000000", "#999999"
BLUE, SKY, GREEN = "#0072B2", "#56B4E9", "#009E73"
ORANGE, RED, PINK, OLIVE = "#E69F00", "#D55E00", "#CC79A7", "#B8A800"

DOTS_PER_INCH = 130


def save(figure: Figure, path: Path, *, bottom: float = 0.0) -> None:
    """Write `figure` to `path` and forget it; `bottom` is the share of its height left free for a legend."""
    figure.tight_layout(rect=(0, bottom, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DOTS_PER_INCH)
    pyplot.close(figure)


def plain_log(axis: Axis) -> None:
    """Label 1, 2 and 5 of every decade, as numbers."""
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(StrMethodFormatter("{x:g}"))
