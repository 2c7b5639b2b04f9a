"""The report of a finished run for the terminal: summary.json as tables that fit 80 columns."""

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from fedcore.core.contract.outcome import PHASES
from fedcore.core.contract.protocols import Json
from fedcore.core.data.figures import Figure
from fedcore.core.tasks.table import task_named
from fedcore.core.tasks.task import Task

WIDTH = 80  # characters that the tables take at least: on a narrower terminal lines wrap, and no cell is lost
ARM_WIDTH = 14  # "50% r16 0.62" and the space between columns
MAX_CELLS = 200  # arms shown on a terminal; more are easier to read in rounds.csv
STATUS_WORDS = {"missed_deadline": "late", "lost": "lost", "rejected": "refused"}


def print_report(console: Console, summary: Json) -> None:
    """Print what `report` returns."""
    terminal_width = console.width
    console.width = max(WIDTH, terminal_width)
    console.print(report(summary))
    console.width = terminal_width


def report(summary: Json) -> RenderableType:
    """Return the tables of a finished run: rounds, phases, networks, arms and rewards, exports, a closing text."""
    parts: list[tuple[str, RenderableType]] = [
        ("Rounds", _rounds(summary)),
        (
            "Figures on held-back rows; after the first cut, of one class at a time",
            _evaluations(summary),
        ),
        ("Seconds by phase, mean over the round's devices; closing it, once", _phases(summary)),
        ("Shares of the time from push to acceptance, by network class", _networks(summary.get("networks", {}))),
        ("Arms and rewards of every device: sparsity, rank, reward", _arms(summary["rounds"])),
        ("Exports: what each class keeps", _sizes(summary["classes"])),
        ("Exports: how each class does", _speeds(summary["classes"], _task(summary).shown("always", "report"))),
    ]
    lines = [line for title, part in parts for line in (Text(title, style="bold"), part, Text())]
    warnings = [Text(f"warning: {warning}", style="yellow") for warning in summary.get("warnings", ())]
    return Group(*lines, Text(_closing(summary)), *_samples(summary), *warnings)


def figure_table(first: str, columns: Iterable[str]) -> Table:
    """Return a table; its first column folds on a narrow terminal, so that figures are never cut."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    table.add_column(first, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _rounds(summary: Json) -> Table:
    table = figure_table("round", ("updates", "seconds", "MB up", "MB down"))
    for round_ in summary["rounds"]:
        table.add_row(
            str(round_["round"]),
            "void" if round_["void"] else f"{round_['accepted']}/{round_['devices']}",
            _number(round_["duration_s"], 1),
            *(_number(round_[key] / 1e6, 1) for key in ("bytes_up", "bytes_down")),
        )
    return table


def _evaluations(summary: Json) -> RenderableType:
    """Return a row for every round after which a model was measured."""
    task, untrained = _task(summary), summary["global"]["untrained"]
    measured = [round_ for round_ in summary["rounds"] if round_.get(task.headline.name) is not None]
    figures = _known(task.figures, [untrained, *measured])
    table = figure_table("model", ("after round", *(figure.title for figure in figures)))
    if untrained:
        table.add_row("untrained", "0", *_measured(untrained, figures))
    for round_ in measured:
        table.add_row(_model(round_), str(round_["round"]), *_measured(round_, figures))
    return table if table.row_count else Text("none: no evaluator answered after a round")


def _model(round_: Json) -> str:
    """Return of which model a round's figures are: an earlier version measured the dense one alone."""
    device_class = round_.get("evaluated_class")
    return f"{device_class}, {round_['evaluated_sparsity']:.0%} pruned" if device_class else "dense"


def _phases(summary: Json) -> Table:
    phases = (*PHASES, "wait", "fold")
    table = figure_table("round", (*phases, "close"))
    for round_ in summary["rounds"]:
        figures = {**round_["phase_s"], "close": round_.get("close_s")}
        table.add_row(str(round_["round"]), *_figures(figures, (*phases, "close"), 2))
    return table


def _networks(networks: Json) -> RenderableType:
    names = ("updates", "uplink", "downlink", "wait", "train", "Mbit/s up", "Mbit/s down")
    table = figure_table("network", names)
    for name, network in networks.items():
        parts = (network["phase_s"][phase] for phase in ("upload", "download", "wait", "train"))
        table.add_row(
            name,
            str(network["updates"]),
            *(_percent(part, network["time_s"]) for part in parts),
            *_figures(network, ("uplink_mbps", "downlink_mbps"), 1),
        )
    faults = sum(network["clock_faults"] for network in networks.values())
    note = f"{faults} updates are left out of the shares: their device's clock is wrong (rounds.csv: timing)"
    return Group(table, Text(note)) if faults else table


def _arms(rounds: Sequence[Json]) -> RenderableType:
    devices = sorted({row["device"] for round_ in rounds for row in round_["results"]})
    if len(devices) * len(rounds) > MAX_CELLS:
        return Text(f"{len(devices)} devices in {len(rounds)} rounds: see rounds.csv")
    longest = max(map(len, devices), default=0)
    side_by_side = max(1, (WIDTH - longest - 2) // ARM_WIDTH)
    starts = range(0, len(rounds), side_by_side)
    return Group(*(_arms_of(rounds[start : start + side_by_side], devices) for start in starts))


def _arms_of(rounds: Sequence[Json], devices: Sequence[str]) -> Table:
    table = figure_table("device", (f"round {round_['round']}" for round_ in rounds))
    columns = [{row["device"]: _arm(row) for row in round_["results"]} for round_ in rounds]
    for device in devices:
        table.add_row(device, *(column.get(device, "-") for column in columns))
    return table


def _arm(row: Json) -> str:
    end = STATUS_WORDS.get(row["status"]) or _number(row["reward"], 2)
    return f"{row['sparsity']:.0%} r{row['rank']} {end}"


def _sizes(classes: Json) -> Table:
    names = ("target", "sparsity", "heads", "channels", "parameters", "of dense", "MB on disk")
    table = figure_table("class", names)
    for name, exported in classes.items():
        table.add_row(
            name,
            f"{exported['target_sparsity']:.0%}",
            f"{exported['realised_sparsity']:.1%}",
            f"{exported['heads_kept']}/{exported['heads_dense']}",
            f"{exported['channels_kept']}/{exported['channels_dense']}",
            _scaled(exported["parameters"], 1e-6, 2, " M"),
            _share(exported["parameters"], exported["dense_parameters"]),
            _scaled(exported["size_bytes"], 1e-6, 1),
        )
    return table


def _speeds(classes: Json, figures: Sequence[Figure]) -> Table:
    figures = _known(figures, [exported["test"] for exported in classes.values()])
    titles = (figure.title for figure in figures)
    table = figure_table("class", (*titles, "latency ms", "of dense", "training MiB"))
    for name, exported in classes.items():
        table.add_row(
            name,
            *_measured(exported["test"] or {}, figures),
            _scaled(exported["latency_s"], 1e3, 1),
            _number(exported["latency_ratio"], 2),
            _number(exported["peak_training_memory_mb"], 0),
        )
    return table


def _closing(summary: Json) -> str:
    quality, classes, task = summary["global"], summary["classes"], _task(summary)
    parts = [
        _quality_line(task, f"{name}, {figures['realised_sparsity']:.0%} pruned", figures["test"])
        for name, figures in classes.items()
    ]
    pruned = any(figures["realised_sparsity"] for figures in classes.values())
    dense = "the same adapter on the dense model, which no device trains" if pruned else "global adapter"
    parts.append(_quality_line(task, dense, quality["final"]))
    parts += _floor_lines(summary.get("floors") or {}, task.headline)
    parts.append(_quality_line(task, "centralised LoRA on the dense model, as many steps", quality["reference"]))
    parts = [part for part in parts if part]
    totals = summary["totals"]
    parts.append(
        f"{totals['steps']} optimiser steps in {totals['rounds']} rounds, {totals['duration_s']:.0f} s; "
        f"{totals['bytes_up'] / 1e6:.1f} MB up, {totals['bytes_down'] / 1e6:.1f} MB down"
    )
    return "\n".join(parts)


def _quality_line(task: Task, name: str, metrics: Json | None) -> str:
    """Return one model's figures in a line; empty without any."""
    if not metrics:
        return ""
    return f"{name}: {task.words(metrics, 'report', 'lines')} on {metrics['rows']} held-back rows"


def _samples(summary: Json) -> list[Text]:
    """Return what the models that write answered to the same prompts, side by side: untrained, dense, every class's."""
    models = {"untrained": summary["global"]["untrained"], "dense": summary["global"]["final"]}
    models |= {name: figures["test"] for name, figures in summary["classes"].items()}
    answers = {name: measured["samples"] for name, measured in models.items() if measured and measured.get("samples")}
    if not answers:
        return []
    width = max(map(len, (*answers, "reference")))
    lines = [Text("the same prompts, answered greedily:", style="bold")]
    for place, sample in enumerate(next(iter(answers.values()))):
        told = {"reference": sample["reference"]} | {
            name: samples[place]["answer"] for name, samples in answers.items() if place < len(samples)
        }
        lines.append(
            Text("\n".join([f"  {sample['prompt']}", *(f"    {name:{width}}  {told[name]}" for name in told)]))
        )
    return lines


def _floor_lines(floors: Json, headline: Figure) -> list[str]:
    """Return the floors in one line, nothing where none was found."""
    majority, untrained, tfidf = (floors.get(name) for name in ("majority", "untrained", "tfidf"))
    parts = []
    if majority:
        parts.append(f"always answering {majority['label']!r} {headline.text(majority.get(headline.name))}")
    if untrained:
        parts.append(f"untrained model {headline.text(untrained[headline.name])}")
    if tfidf:
        how = "cross-validated over held-back rows, " if tfidf["cross_validated"] else ""
        value = headline.text(tfidf.get(headline.name))
        parts.append(f"TF-IDF with logistic regression {value} ({how}{tfidf['trained_on']} rows)")
    return [f"floors, in {headline.title}: {', '.join(parts)}"] if parts else []


def _task(summary: Json) -> Task:
    return task_named(summary.get("run", {}).get("task", ""))


def _known(figures: Iterable[Figure], rows: Iterable[Json | None]) -> list[Figure]:
    """Return the figures without those that no model has to have and none has."""
    measured = [row for row in rows if row]
    return [
        figure for figure in figures if not figure.optional or any(row.get(figure.name) is not None for row in measured)
    ]


def _measured(values: Json, figures: Iterable[Figure]) -> list[str]:
    return [figure.text(values.get(figure.name)) for figure in figures]


def _figures(values: Json, names: Iterable[str], digits: int) -> list[str]:
    return [_number(values.get(name), digits) for name in names]


def _number(value: float | None, digits: int) -> str:
    return "n/a" if value is None else f"{value:.{digits}f}"


def _scaled(value: float | None, factor: float, digits: int, unit: str = "") -> str:
    return "n/a" if value is None else f"{value * factor:.{digits}f}{unit}"


def _percent(part: float, whole: float) -> str:
    return "n/a" if not whole else f"{part / whole:.1%}"


def _share(part: float | None, whole: float | None) -> str:
    return "n/a" if not part or not whole else f"{part / whole:.2f}"
