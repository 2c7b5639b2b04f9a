"""What every benchmark shares: its flags, its table, and a JSON that says where, when and how it was measured."""

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

RESULTS = Path("benchmarks/results")
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Row = Mapping[str, Any]


def parser(name: str, description: str) -> argparse.ArgumentParser:
    """Return a parser with the flags of all benchmarks: --quick and --json [FILE]."""
    made = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    made.add_argument("--quick", action="store_true", help="a smaller run that ends within a minute")
    made.add_argument(
        "--json",
        type=Path,
        nargs="?",
        const=RESULTS / f"{name}.json",
        metavar="FILE",
        help="also write every figure as JSON (default FILE: %(const)s)",
    )
    return made


def machine() -> dict[str, Any]:
    """Return what figures depend on: platform, CPU model and count, memory, versions, load at this moment."""
    return {
        "platform": f"{platform.system()}-{platform.machine()}",
        "cpu_model": _cpu_model(),
        "cpu_count": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "load_1min_at_end": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def emit(
    name: str,
    rows: Sequence[Row],
    args: argparse.Namespace,
    *,
    notes: Mapping[str, Any] | None = None,
    shown: Sequence[str] | None = None,
) -> None:
    """Print `rows` as a table and, with --json, write them with machine, date (UTC) and command.

    Columns are the keys of the rows in order of appearance, in print only those in `shown` where it is given; `notes`
    (fixed settings, goals) go under the table and into the JSON.
    """
    columns = list(shown or dict.fromkeys(key for row in rows for key in row))
    table = Table(title=name)
    for column in columns:
        numeric = any(isinstance(row.get(column), int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(_cell(row.get(column)) for column in columns))
    console = Console()
    console.print(table)
    for key, value in (notes or {}).items():
        console.print(f"{key}: {value}", highlight=False)
    if args.json is not None:
        _write(args.json, name, rows, notes or {})
        console.print(f"wrote {args.json}", highlight=False)


def stored_lines(file: Path) -> dict[str, dict[str, Any]]:
    """Return the results of a JSONL file by their "hash"; the last one of a hash counts."""
    if not file.is_file():
        return {}
    lines = file.read_text(encoding="utf-8").splitlines()
    return {result["hash"]: result for result in map(json.loads, lines)}


def store_line(file: Path, result: Row) -> None:
    """Append a result to a JSONL file, which is made where it is not there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(result) + "\n")


def _write(path: Path, name: str, rows: Sequence[Row], notes: Mapping[str, Any]) -> None:
    content = {
        "benchmark": name,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": _command(name),
        "machine": machine(),
        "notes": dict(notes),
        "rows": [dict(row) for row in rows],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _command(name: str) -> str:
    threads = [f"{variable}={os.environ[variable]}" for variable in THREAD_VARIABLES if variable in os.environ]
    return shlex.join([*threads, "python", "-m", f"benchmarks.{name}", *sys.argv[1:]])


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or "unknown"


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
