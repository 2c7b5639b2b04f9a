"""Whole simulations of methods that freeze a part of the adapter: trained values, traffic, both ways to train."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from fedcore.core.codec.chain import encode
from fedcore.core.contract.protocols import Json
from tests.simulation.test_run import run, text

__all__ = ["text"]  # a fixture

Adapter = dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"]


def played(text: str, root: Path, name: str, *overrides: str) -> tuple[list[Adapter], Json]:
    """Return the global adapters after rounds 1 and 2, and the summary."""
    summary = run(text, root, "training.codec=identity", "run.rounds=2", f"strategy.name={name}", *overrides)
    return [load_file(root / "globals" / f"round-{number:08}.safetensors") for number in (1, 2)], summary


def moved(adapters: list[Adapter]) -> set[str]:
    """Return which of A, B and head changed in round 2."""
    before, after = adapters
    changed = [name for name in before if before[name].tobytes() != after[name].tobytes()]
    return {"head" if name.startswith("head") else name[-1] for name in changed}


def uploads(summary: Json) -> dict[str, int]:
    """Return the bytes that a device of each class sent in round 2."""
    return {row["class"]: row["bytes_up"] for row in summary["rounds"][1]["results"]}


def test_ffa_lora_moves_b_and_sends_nothing_else(text: str, tmp_path: Path) -> None:
    adapters, summary = played(text, tmp_path, "ffa-lora")
    assert moved(adapters) == {"B", "head"}
    sent = {name: value for name, value in adapters[1].items() if not name.endswith(".A")}
    assert set(uploads(summary).values()) == {len(encode(sent, "identity"))}


def test_rolora_moves_a_in_the_second_round_however_it_is_trained(text: str, tmp_path: Path) -> None:
    batched, _ = played(text, tmp_path / "batched", "rolora")
    alone, _ = played(text, tmp_path / "alone", "rolora", "simulation.training=one-by-one")
    assert moved(batched) == moved(alone) == {"A", "head"}
    for name, value in batched[1].items():
        np.testing.assert_allclose(value, alone[1][name], atol=2e-5)


def test_legend_has_a_slow_class_send_fewer_layers(text: str, tmp_path: Path) -> None:
    slow = text.replace('name = "small"', 'name = "small"\nslowdown = 6.0')
    adapters, summary = played(slow, tmp_path, "legend")
    last = {name: value for name, value in adapters[1].items() if not name.startswith("layers.0.")}
    assert uploads(summary) == {"big": len(encode(adapters[1], "identity")), "small": len(encode(last, "identity"))}
    assert moved(adapters) == {"A", "B", "head"}
