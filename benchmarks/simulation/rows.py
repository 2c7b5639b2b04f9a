"""Rows of one case, compared: how far each global model is from ours, and how much longer each simulator took."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

Row = dict[str, Any]

REFERENCE = "ours"
SHOWN = (
    *("task", "clients", "simulator", "ms_per_client", "cpu_ms_per_client", "peak_mb"),
    *("times_ours", "largest_difference", "not_run"),
)


def compared(rows: Sequence[Row], folder: Path) -> list[Row]:
    """Return the rows with what sets them beside ours; without ours, as they are."""
    ours = next((row for row in rows if row["simulator"] == REFERENCE and "not_run" not in row), None)
    if ours is None:
        return list(rows)
    return [
        row
        if row is ours or "not_run" in row
        else {
            **row,
            "times_ours": row["ms_per_client"] / ours["ms_per_client"],
            "largest_difference": difference(folder / f"{REFERENCE}.npz", folder / f"{row['simulator']}.npz"),
        }
        for row in rows
    ]


def difference(first: Path, second: Path) -> float:
    """Return the largest difference of any value that both files name."""
    with np.load(first) as one, np.load(second) as other:
        names = sorted(set(one.files) & set(other.files))
        if not names:
            raise ValueError(f"{first} and {second} have no tensor in common")
        return max(float(np.abs(one[name] - other[name]).max()) for name in names)
