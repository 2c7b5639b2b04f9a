"""Held-back loss against what it cost, as one picture with three panels."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.diloco.cases import DILOCO, Case, Point
from benchmarks.drawing import BLACK, BLUE, GREEN, ORANGE, plain_log, save

# The strategy is in the colour, H in the line.
COLOURS = {"bf16+zstd": BLUE, "ef+int8+zstd": ORANGE, "ef+int4+zstd": GREEN}
BASELINE = BLACK
LINES = {5: ":", 10: "-", 30: "--"}
MARKERS = {5: "^", 10: "o", 30: "s"}
MEGABYTE = 1e6
PANELS = (
    ("uploaded, MB (all devices)", "log"),
    ("uploaded and downloaded, MB (all devices)", "log"),
    ("virtual time, s", "linear"),
)


def draw(runs: Mapping[Case, Sequence[Point]], path: Path) -> None:
    """Write the figure to `path`."""
    figure, panels = plt.subplots(1, len(PANELS), figsize=(14, 4.6), sharey=True)
    for case, run in runs.items():
        trained, loss = run[1:], [point.loss for point in run[1:]]
        up = [point.bytes_up / MEGABYTE for point in trained]
        both = [(point.bytes_up + point.bytes_down) / MEGABYTE for point in trained]
        for panel, cost in zip(panels, (up, both, [point.virtual_s for point in trained]), strict=True):
            _line(panel, case, cost, loss)
    for panel, (label, scale) in zip(panels, PANELS, strict=True):
        panel.set_xscale(scale)
        if scale == "log":
            plain_log(panel.xaxis)
        panel.set_xlabel(label)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("held-back loss, nats")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="lower center", ncol=4, frameon=False)
    figure.suptitle("One outer step per marker: FedIT (black) and DiLoCo by update codec, H local steps a round")
    save(figure, path, bottom=0.13)


def _line(panel: Axes, case: Case, cost: Sequence[float], loss: Sequence[float]) -> None:
    panel.plot(
        cost,
        loss,
        color=COLOURS[case.codec] if case.strategy == DILOCO else BASELINE,
        linestyle=LINES[case.local_steps],
        marker=MARKERS[case.local_steps],
        markersize=4,
        label=case.name,
    )
