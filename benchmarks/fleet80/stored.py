"""Results as files: one JSON per case, written whole or not at all."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.fleet80.cases.case import FOLDER, Case
from fedcore.storage.atomic import write_atomic

Result = dict[str, Any]


def load(case: Case, base: Path = FOLDER) -> Result | None:
    """Return a case's result, None where it has not been run."""
    path = case.path(base)
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def store(case: Case, result: Result, base: Path = FOLDER) -> Path:
    """Write a case's result and return where."""
    path = case.path(base)
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = json.dumps({**result, "rounds": [], "final": {}}, indent=1)
    write_atomic(path, (_spread(lines, result) + "\n").encode())
    return path


def stored_names(track: str, base: Path = FOLDER) -> Iterator[str]:
    """Yield the names of all stored results of a track but those of searches."""
    yield from sorted(path.stem for path in (base / track).glob("*.json"))


def _spread(text: str, result: Result) -> str:
    """Put rounds and final models in, one a line: readable in a diff, and small."""
    for key in ("rounds", "final"):
        values = result[key]
        if isinstance(values, list):
            body = "[\n" + ",\n".join(f"  {json.dumps(value)}" for value in values) + "\n ]"
            text = text.replace(f'"{key}": []', f'"{key}": {body}')
        else:
            body = "{\n" + ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in values.items())
            text = text.replace(f'"{key}": {{}}', f'"{key}": {body}\n }}')
    return text
