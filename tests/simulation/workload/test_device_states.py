from pathlib import Path

import numpy as np
import pytest

from fedcore.client.training.training_state import TrainingState
from fedcore.core.contract.outcome import Status
from fedcore.core.rounds.result import MemberResult, RoundResult
from fedcore.nn.training.scorer import GroupState
from fedcore.simulation.workload.device_states import DeviceStates


def state(value: float) -> TrainingState:
    return TrainingState(
        groups=GroupState(heads=np.full((1, 2), value, np.float32), channels=np.zeros((1, 3), np.float32))
    )


def closed(number: int, **statuses: Status) -> RoundResult:
    members = tuple(
        MemberResult(device=name, status=status, pushed_at_s=0.0, accepted_at_s=1.0)
        for name, status in statuses.items()
    )
    return RoundResult(round=number, void=False, members=members, opened_at_s=0.0, closed_at_s=2.0)


def first_value(states: DeviceStates, device: str) -> float | None:
    groups = states.load(device).groups
    return None if groups is None else float(groups.heads[0, 0])


@pytest.mark.parametrize("restarted", [False, True])
def test_only_the_states_of_accepted_devices_are_committed(tmp_path: Path, restarted: bool) -> None:
    states = DeviceStates(root=tmp_path, needed=True)
    for device in ("ada", "bob"):
        states.prepare(device, 1, state(1.0))
        assert first_value(states, device) is None, "a prepared state is not read"
    result = closed(1, ada=Status.ACCEPTED, bob=Status.MISSED_DEADLINE)
    if restarted:
        states = DeviceStates(root=tmp_path, needed=True)
        states.recover(result)
    else:
        states.settle(result)
    assert (first_value(states, "ada"), first_value(states, "bob")) == (1.0, None)
    assert [path.name for path in sorted(tmp_path.glob("*/*"))] == ["training.safetensors"]


def test_a_state_of_another_round_is_dropped(tmp_path: Path) -> None:
    states = DeviceStates(root=tmp_path, needed=True)
    states.prepare("ada", 3, state(3.0))
    DeviceStates(root=tmp_path, needed=True).recover(closed(2, ada=Status.ACCEPTED))
    assert first_value(states, "ada") is None and not list(tmp_path.glob("*/*"))


def test_nothing_is_written_unless_a_state_is_needed(tmp_path: Path) -> None:
    states = DeviceStates(root=tmp_path, needed=False)
    states.prepare("ada", 1, state(1.0))
    states.settle(closed(1, ada=Status.ACCEPTED))
    assert states.load("ada") == TrainingState() and not list(tmp_path.iterdir())
