"""Simulations with a quantised class beside a plain one."""

from pathlib import Path

import numpy as np

from tests.simulation.test_parts import played
from tests.simulation.test_run import text

__all__ = ["text"]  # a fixture


def test_a_quantised_class_trains_beside_a_plain_one(text: str, tmp_path: Path) -> None:
    mixed = text.replace('name = "small"', 'name = "small"\nquantize = "nf4"')
    plain, _ = played(text, tmp_path / "plain", "fedspine")
    batched, summary = played(mixed, tmp_path / "batched", "fedspine")
    alone, _ = played(mixed, tmp_path / "alone", "fedspine", "simulation.training=one-by-one")
    for name, value in batched[1].items():
        np.testing.assert_allclose(value, alone[1][name], atol=2e-5)
    moved = max(float(np.abs(value - plain[1][name]).max()) for name, value in batched[1].items())
    assert 1e-6 < moved < 0.1, "rounding weights changes a little"
    peaks = {row["class"]: row["peak_memory_mb"] for row in summary["rounds"][0]["results"]}
    assert peaks["small"] > 0
