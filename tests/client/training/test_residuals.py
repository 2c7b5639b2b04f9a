from pathlib import Path

import numpy as np
import pytest

from fedcore.client.training.residuals import Residuals
from fedcore.core.codec.feedback import Coordinates, Residual
from fedcore.core.model.keep_set import KeepSet

AT = Coordinates(basis="persistent", rank=2, keep_set=KeepSet(heads=((0, 1),), channels=((0, 2),)))


def residual(value: float) -> Residual:
    return Residual(at=AT, tensors={"head.bias": np.full(2, value, np.float32), "layers.0.q.A": np.zeros((2, 3), "f4")})


def committed(residuals: Residuals) -> float | None:
    held = residuals.committed()
    if held is None:
        return None
    assert held.at == AT and held.tensors["layers.0.q.A"].shape == (2, 3)
    return float(held.tensors["head.bias"][0])


def test_nothing_is_left_at_first(tmp_path: Path) -> None:
    Residuals(tmp_path).settle(1)
    assert Residuals(tmp_path).committed() is None


def test_what_is_left_after_an_update_counts_once_the_update_does(tmp_path: Path) -> None:
    residuals = Residuals(tmp_path)
    residuals.prepare(residual(1), 4)
    assert committed(residuals) is None
    Residuals(tmp_path).settle(4)
    assert committed(residuals) == 1
    residuals.prepare(residual(2), 5)
    residuals.settle(4)
    residuals.settle(5)
    assert committed(residuals) == 1, "an update that did not count takes its residual with it"
    residuals.prepare(residual(3), 6)
    residuals.settle(0)
    assert committed(residuals) == 1


@pytest.mark.parametrize("damage", [b"", b"\0" * 40, b"not tensors at all"])
def test_a_damaged_file_is_no_residual_and_no_crash(damage: bytes, tmp_path: Path) -> None:
    residuals = Residuals(tmp_path)
    residuals.prepare(residual(1), 4)
    (tmp_path / "residual-next.safetensors").write_bytes(damage)
    residuals.settle(3)
    assert residuals.committed() is None
    residuals.prepare(residual(2), 5)
    residuals.settle(5)
    assert committed(residuals) == 2


def test_a_residual_that_may_have_been_sent_is_lost_rather_than_sent_twice(tmp_path: Path) -> None:
    """A damaged file does not say its round: it counts as sent, and what was left before it goes as well."""
    residuals = Residuals(tmp_path)
    residuals.prepare(residual(1), 4)
    residuals.settle(4)
    residuals.prepare(residual(2), 5)
    (tmp_path / "residual-next.safetensors").write_bytes(b"not tensors at all")
    residuals.settle(4)
    assert residuals.committed() is None and not (tmp_path / "residual-next.safetensors").exists()
