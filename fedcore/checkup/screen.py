"""The facts of a run for the terminal: tables that fit 100 columns, readable without colour."""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedcore.checkup.class_costs import ArmCost, ClassCost, RunCost
from fedcore.checkup.run_facts import RunFacts
from fedcore.core.data.device_rows import FleetRows, counted, label_shares, percent, row_doubts
from fedcore.local_fleet.report import figure_table

WIDTH = 100  # characters that the tables take at most
MOST_DEVICES = 16  # devices that are listed; of more, those with the most and the fewest rows
MOST_VALUES = 5  # of the column that rows are dealt by, that are told of a device
MOST_RANKS = 6  # ranks that have a column; of more, some are left out in between
TOO_MUCH = "*"  # beside memory that a class does not have


def print_facts(console: Console, facts: RunFacts) -> None:
    """Print what `screen` returns."""
    terminal_width = console.width
    console.width = WIDTH
    console.print(screen(facts), markup=False, highlight=False)
    console.width = terminal_width


def screen(facts: RunFacts) -> RenderableType:
    """Return the tables of a run, and in the end its doubts, its problems and whether it can begin."""
    parts: list[RenderableType] = [Text(_title(facts))]
    if facts.rows is not None:
        parts += [Text(), Text("Rows and labels of the devices", style="bold"), *_rows(facts.rows)]
    if facts.classes:
        parts += [Text(), Text("Memory of a training step, MiB, by sparsity and rank", style="bold")]
        parts += _needs(facts.classes)
        parts += [Text(), Text("What memory_mb would be right, MiB", style="bold"), _limits(facts.classes)]
        parts += [Text(), Text("A round of one device, by its costliest arm", style="bold"), _arms(facts.classes)]
    if facts.cost is not None:
        parts.append(Text(_total(facts.cost, facts.config.simulation.gflops)))
    return Group(*parts, Text(), *_verdict(facts))


def _title(facts: RunFacts) -> str:
    config = facts.config
    return (
        f"run {config.run.name}: strategy {config.strategy.name}, {counted(config.run.rounds, 'round')}, model "
        f"{config.model.path}, data {config.data.train}; judged as fedcore {facts.command} would run it"
    )


def _rows(rows: FleetRows) -> list[RenderableType]:
    table = figure_table("device", ("rows", "of all"))
    table.add_column("labels", overflow="fold")
    if rows.column:
        table.add_column(rows.column, overflow="fold")
    ordered = sorted(rows.devices, key=lambda device: -device.rows)
    hidden = len(ordered) - MOST_DEVICES
    for place, device in enumerate(ordered):
        if hidden > 0 and place == MOST_DEVICES // 2:
            table.add_row(f"... {hidden:,} more")
        if hidden <= 0 or not MOST_DEVICES // 2 <= place < MOST_DEVICES // 2 + hidden:
            table.add_row(
                device.device,
                f"{device.rows:,}",
                percent(device.rows, rows.rows),
                Text(label_shares(device.labels)),
                *_values(rows, device.values),
            )
    whole = (Text(label_shares(rows.labels, shown=5)), *_values(rows, rows.values))
    table.add_row("all training rows", f"{rows.rows:,}", "", *whole)
    table.add_row("held back", f"{rows.held_back or 0:,}")
    return [table]


def _values(rows: FleetRows, values: Mapping[str, int]) -> list[Text]:
    """Return the cell of the column that rows are dealt by, with the rows of every value, if there is such a column."""
    if not rows.column:
        return []
    ordered = sorted(values, key=lambda value: (-values[value], value))
    more = f" and {len(ordered) - MOST_VALUES} more" if len(ordered) > MOST_VALUES else ""
    return [Text(", ".join(f"{value} {values[value]:,}" for value in ordered[:MOST_VALUES]) + more)]


def _needs(classes: Sequence[ClassCost]) -> list[RenderableType]:
    """Return one table of all classes: the ranks are its columns."""
    ranks = classes[0].ranks
    shown = spread(len(ranks), MOST_RANKS)
    table = figure_table("class", ("memory_mb", "sparsity", *(f"rank {ranks[place]}" for place in shown)))
    for kind in classes:
        for place, (sparsity, needs) in enumerate(kind.needs_mb):
            cells = (_need(needs[column], kind.memory_mb) for column in shown)
            table.add_row(*((kind.name, _limit(kind)) if place == 0 else ("", "")), f"{sparsity:.0%}", *cells)
    exceeds = any(
        kind.memory_mb and need > kind.memory_mb for kind in classes for _, row in kind.needs_mb for need in row
    )
    return (
        [table, Text(f"{TOO_MUCH} more than the class's memory_mb: such an arm is never chosen")]
        if exceeds
        else [table]
    )


def spread(count: int, most: int) -> list[int]:
    """Return at most `most` of the places 0 to `count` - 1, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / (most - 1)) for place in range(most)]


def _need(need: float, limit: float) -> str:
    return f"{need:,.0f}{TOO_MUCH if limit and need > limit else ' '}"


def _limit(kind: ClassCost) -> str:
    return f"{kind.memory_mb:,g}" if kind.memory_mb else "no limit"


def _limits(classes: Iterable[ClassCost]) -> Table:
    classes = list(classes)
    taught = any(kind.teacher_mb is not None for kind in classes)
    columns = ("memory_mb", "joins from", "uncut at first", "every arm", *(("a teacher",) if taught else ()))
    table = figure_table("class", columns)
    table.add_column("so its devices", overflow="fold")
    for kind in classes:
        least = (kind.joins_mb, kind.starts_mb, kind.all_mb, *((kind.teacher_mb,) if taught else ()))
        figures = ("-" if figure is None else f"{figure:,}" for figure in least)
        table.add_row(kind.name, _limit(kind), *figures, _consequence(kind))
    return table


def _consequence(kind: ClassCost) -> str:
    if not kind.joins:
        return f"cannot join: needs {kind.joins_mb:,} at sparsity {kind.target:g}"
    if not kind.memory_mb or kind.memory_mb >= kind.all_mb:
        return "may get every arm"
    if kind.memory_mb >= kind.starts_mb:
        return f"start uncut with rank {kind.first.rank} at most"
    return f"start cut to sparsity {kind.first.sparsity:.0%}, before anything was scored"


def _arms(classes: Iterable[ClassCost]) -> Table:
    table = figure_table("class", ("devices", "round", "sparsity", "rank", "seconds", "MB down", "MB up"))
    for kind in classes:
        if kind.joins:
            table.add_row(kind.name, f"{kind.count:,}", "first", *_arm(kind.first))
            table.add_row("", "", "last", *_arm(kind.last))
        else:
            table.add_row(kind.name, f"{kind.count:,}", "none", *["-"] * 5)
    return table


def _arm(arm: ArmCost) -> Iterator[str]:
    yield from (f"{arm.sparsity:.0%}", str(arm.rank), f"{arm.seconds:,.1f}")
    yield from (f"{size / 1e6:,.2f}" for size in (arm.down_bytes, arm.up_bytes))


def _total(cost: RunCost, gflops: float) -> str:
    return (
        f"all {counted(cost.rounds, 'round')}, at most: {duration(cost.seconds)}, {_bytes(cost.down_bytes)} down, "
        f"{_bytes(cost.up_bytes)} up. Seconds are modelled for a device with a core of {gflops:g} GFLOP/s "
        "(simulation.gflops) of its own, without start, probes and evaluation; bytes are the adapter's, before entropy "
        "coding"
    )


def duration(seconds: float) -> str:
    """Return "45 s", "12 min" or "3.4 h"."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:,.1f} h"


def _bytes(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _verdict(facts: RunFacts) -> Iterator[Text]:
    for doubt in (*facts.doubts, *(() if facts.rows is None else row_doubts(facts.rows))):
        yield Text(doubt)
    for problem in facts.problems:
        yield Text(f"MEND {problem}")
    if not facts.problems:
        yield Text(f"ok   the run can begin: fedcore {facts.command}")
    elif facts.can_begin:
        devices = sum(kind.count for kind in facts.classes if not kind.joins)
        yield Text(f"     without {counted(devices, 'device')} the run can begin: fedcore {facts.command}")
