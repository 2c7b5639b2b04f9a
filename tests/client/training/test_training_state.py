"""Moments and averages on disk: exact over a restart, a fresh start where the file is damaged."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.client.training.training_state import TrainingState, load_training_state, save_training_state
from fedcore.core.model.keep_set import KeepSet
from fedcore.nn.training.moments import Holding, Moment
from fedcore.nn.training.scorer import GroupState

KEEP_SET = KeepSet(heads=((0, 1), (1, 2)), channels=((0,), (3,)))


def full_state() -> TrainingState:
    rng = np.random.default_rng(0)

    def drawn(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return rng.standard_normal(shape).astype(np.float32)

    return TrainingState(
        basis="persistent",
        holding=Holding(keep_set=KEEP_SET, rank=4),
        moments={
            "layers.0.q.A": Moment(first=drawn(4, 6), second=drawn(4, 6), step=7),
            "layers.0.q.B": Moment(first=drawn(6, 4).T, second=drawn(6, 4).T, step=9),
        },
        groups=GroupState(heads=drawn(2, 3), channels=drawn(2, 5)),
    )


def test_a_state_comes_back_as_it_went(tmp_path: Path) -> None:
    state = full_state()
    save_training_state(tmp_path / "state", state)
    back = load_training_state(tmp_path / "state")
    assert (back.basis, back.holding) == (state.basis, state.holding)
    assert back.moments.keys() == state.moments.keys()
    for name, moment in state.moments.items():
        assert back.moments[name].step == moment.step
        np.testing.assert_array_equal(back.moments[name].first, moment.first)
        np.testing.assert_array_equal(back.moments[name].second, moment.second)
    assert back.groups is not None and state.groups is not None
    np.testing.assert_array_equal(back.groups.heads, state.groups.heads)
    np.testing.assert_array_equal(back.groups.channels, state.groups.channels)


def test_an_empty_state_comes_back_empty(tmp_path: Path) -> None:
    save_training_state(tmp_path / "state", TrainingState())
    assert load_training_state(tmp_path / "state") == TrainingState()


def test_an_absent_file_is_a_fresh_start(tmp_path: Path) -> None:
    assert load_training_state(tmp_path / "state") == TrainingState()


@settings(max_examples=60, deadline=None)
@given(cut=st.floats(0, 1), at=st.floats(0, 0.999), flip=st.integers(1, 255))
def test_a_damaged_file_never_raises(
    cut: float, at: float, flip: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "state"
    save_training_state(path, full_state())
    data = bytearray(path.read_bytes())
    data[int(at * min(len(data), 700))] ^= flip  # the header is the part that is parsed
    path.write_bytes(data[: int(cut * len(data))] if cut < 0.5 else data)
    assert isinstance(load_training_state(path), TrainingState)
