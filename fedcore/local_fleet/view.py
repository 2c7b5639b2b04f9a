"""The live view: a table on a terminal, a line per round where output goes to a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fedcore.local_fleet.progress import Evaluated, RunProgress

NOTES_SHOWN = 3
SEPARATOR = "  |  "
NOT_HERE = ("starting", "away", "ended")


class View(Protocol):
    """Shows progress."""

    def show(self, progress: RunProgress) -> None:
        """Show the newest progress."""
        ...


class PlainView:
    """Prints one line per joined device, closed round, evaluation and note."""

    def __init__(self, console: Console) -> None:
        """Print to `console`."""
        self._console = console
        self._shown = RunProgress(total_rounds=0)

    def show(self, progress: RunProgress) -> None:
        """Print the changes since the last call."""
        before, self._shown = self._shown, progress
        for name in sorted(_joined(progress) - _joined(before)):
            self._console.print(f"{name} ({progress.devices[name].device_class}) joined", highlight=False, markup=False)
        for note in progress.notes[len(before.notes) :]:
            self._console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
        if progress.floors != before.floors:
            self._console.print(floors(progress), highlight=False, markup=False, soft_wrap=True)
        if progress.closed + progress.void > before.closed + before.void:
            self._console.print(headline(progress), highlight=False, soft_wrap=True)
        elif progress.evaluated_round != before.evaluated_round:
            self._console.print(quality(progress), highlight=False, soft_wrap=True)


class LiveView:
    """Redraws a table in place."""

    def __init__(self, live: Live) -> None:
        """Draw on `live`."""
        self._live = live

    def show(self, progress: RunProgress) -> None:
        """Draw the newest progress."""
        self._live.update(draw(progress))


@contextmanager
def open_view(console: Console, plain: bool) -> Iterator[View]:
    """Open a live view on a terminal that can move its cursor, else a plain one; `plain` forces the plain one."""
    if plain or not console.is_terminal or console.is_dumb_terminal:
        yield PlainView(console)
        return
    with Live(console=console, refresh_per_second=4, transient=False) as live:
        yield LiveView(live)


def draw(progress: RunProgress) -> RenderableType:
    """Return the content of the live view: a headline, one row per device, the last notes."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for name in ("device", "class"):
        table.add_column(name, overflow="fold")  # long names take two lines; figures stay whole
    table.add_column("state", no_wrap=True)
    for name in ("sparsity", "rank", "reward"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, line in sorted(progress.devices.items()):
        style = {"training": "cyan", "done": "green", "away": "red", "ended": "red", "rejected": "red", "failed": "red"}
        table.add_row(
            name,
            line.device_class,
            Text(line.state, style=style.get(line.state, "")),
            "-" if line.sparsity is None else f"{line.sparsity:.0%}",
            "-" if line.rank is None else str(line.rank),
            "-" if line.reward is None else f"{line.reward:.2f}",
        )
    notes = [Text(note, style="yellow") for note in progress.notes[-NOTES_SHOWN:]]
    if _waiting(progress):
        return Group(Text(_waiting_words(progress), style="bold"), table, *notes)
    headline_text = Text(SEPARATOR.join([_rounds(progress), *_rest(progress)]), style="bold")
    models = [Text(line) for line in (floors(progress), delivered(progress)) if line]
    return Group(headline_text, Text(quality(progress)), *models, table, *notes)


def headline(progress: RunProgress) -> str:
    """Return round, quality, bytes and remaining time in one line."""
    if _waiting(progress):
        return _waiting_words(progress)
    return SEPARATOR.join([_rounds(progress), quality(progress), *_rest(progress)])


def _waiting(progress: RunProgress) -> bool:
    return not progress.round and not progress.void


def _waiting_words(progress: RunProgress) -> str:
    return f"waiting for devices, {len(_joined(progress))} joined"


def _rounds(progress: RunProgress) -> str:
    void = f", {progress.void} void" if progress.void else ""
    return f"round {progress.closed}/{progress.total_rounds}{void}"


def _rest(progress: RunProgress) -> list[str]:
    """Return the bytes so far, and the remaining time or work."""
    parts = [f"{megabytes(progress.bytes_up)} up, {megabytes(progress.bytes_down)} down"]
    if progress.closed >= progress.total_rounds:
        parts.append("measuring and exporting")
    elif progress.remaining_s is not None:
        parts.append(f"about {max(0, progress.remaining_s):.0f} s left")
    return parts


def quality(progress: RunProgress) -> str:
    """Return the last evaluation in words, and of which model it is."""
    last = max(progress.models.values(), key=lambda model: model.round, default=None)
    if last is None:
        return "not yet evaluated"
    when = f"after round {last.round}" if last.round else "untrained"
    return f"{_whose(last)}{progress.task.words(last.figures)} {when}"


def floors(progress: RunProgress) -> str:
    """Return the headline figures that a result has to beat; empty until they are known."""
    words = ", ".join(f"{name} {progress.task.headline.text(value)}" for name, value in progress.floors)
    return f"to beat: {words}" if words else ""


def delivered(progress: RunProgress) -> str:
    """Return the last headline figure of every class's pruned model; empty until one was measured."""
    headline = progress.task.headline
    models = [model for name, model in sorted(progress.models.items()) if name]
    words = ", ".join(
        f"{_whose(model)}{headline.text(model.figures[headline.name])} (round {model.round})" for model in models
    )
    return f"delivered now: {words}" if words else ""


def _whose(model: Evaluated) -> str:
    return f"{model.device_class} at {model.sparsity:.0%}: " if model.device_class else ""


def megabytes(num_bytes: int) -> str:
    """Return bytes as text in MB."""
    return f"{num_bytes / 1e6:.1f} MB"


def _joined(progress: RunProgress) -> set[str]:
    return {name for name, line in progress.devices.items() if line.state not in NOT_HERE}
