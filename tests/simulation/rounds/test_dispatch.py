"""When an attempt counts: an update that arrives at the deadline is late, and one that cannot arrive is not trained."""

import math
from pathlib import Path

import pytest

from fedcore.core.contract.outcome import Status
from fedcore.core.rounds.commands import Turn
from fedcore.simulation.rounds.dispatch import Ended, Ending, Pushed
from tests.simulation.rounds.test_driver import TIMED, outcomes
from tests.simulation.virtual import NamedWorkload, Simulated, prepare

FOREVER = math.inf


def opened(root: Path, classes: str = TIMED, *overrides: str, failing: str = "") -> Simulated:
    """Return a simulation with an open round in which every device has an assignment."""
    workload = NamedWorkload(failing=frozenset(failing.split()))
    simulated = prepare(root, classes, overrides, workload=workload)
    profiles = {name: device.profile for name, device in simulated.driver.fleet.devices.items()}
    simulated.engine.turn(Turn(closed=None, next_round=1, roster=tuple(profiles)), profiles, 0)
    return simulated


def dispatched(simulated: Simulated, *devices: str, until_s: float = FOREVER, now_s: float = 0.0) -> list[Ended]:
    assignments = [Pushed(device=name, attempt=0, now_s=now_s, until_s=until_s) for name in devices]
    ended = list(simulated.driver.planner.carry_out(assignments))
    simulated.engine.log.close()
    simulated.engine.ledger.close()
    return ended


def test_an_update_that_arrives_at_the_deadline_does_not_count(tmp_path: Path) -> None:
    """The round machine has the same rule: an update that arrives at the deadline is late."""
    (arrival,) = dispatched(opened(tmp_path / "free"), "a-0")
    assert arrival.ending is Ending.ARRIVED and arrival.at_s > 0
    assert dispatched(opened(tmp_path / "late"), "a-0", until_s=arrival.at_s) == []
    assert dispatched(opened(tmp_path / "soon"), "a-0", until_s=math.nextafter(arrival.at_s, FOREVER)) == [arrival]


def test_a_device_that_would_finish_training_at_the_deadline_is_not_trained(tmp_path: Path) -> None:
    (failure,) = dispatched(opened(tmp_path / "free", failing="a-0"), "a-0")
    assert failure == Ended(device="a-0", at_s=failure.at_s, ending=Ending.FAILED, message="no memory")
    late, soon = opened(tmp_path / "late"), opened(tmp_path / "soon")
    assert dispatched(late, "a-0", until_s=failure.at_s) == [] and late.workload.trained == []
    assert dispatched(soon, "a-0", until_s=math.nextafter(failure.at_s, FOREVER)) == []
    assert soon.workload.trained == [(1, "a-0")], "the device trains, and cannot upload in time"


def test_a_run_whose_slowest_device_arrives_at_the_deadline_goes_on_without_it(tmp_path: Path) -> None:
    """If dispatch counted it and the machine called it late, the run would end."""
    slow = TIMED + "\n[[fleet.class]]\nname = 'slow'\nuplink_mbps = 0.005\ndownlink_mbps = 0.005"
    free = prepare(tmp_path / "free", slow)
    free.run()
    times = {row["device"]: row["time_s"] for row in outcomes(free.folder)[1]}
    assert max(times, key=lambda name: times[name]) == "slow-0"
    timed = prepare(tmp_path / "timed", slow, [f"coordinator.round_deadline_s={times['slow-0']!r}"])
    timed.run()
    rows = {row["device"]: row for row in outcomes(timed.folder)[1]}
    assert rows["slow-0"]["status"] == Status.MISSED_DEADLINE and rows["slow-0"]["time_s"] == times["slow-0"]
    assert rows["a-0"]["status"] == Status.ACCEPTED


@pytest.mark.parametrize(("fault", "ending"), [("dropout", Ending.VANISHED), ("failure", Ending.FAILED)])
def test_a_device_with_a_fault_is_not_trained_and_ends_before_it_would_arrive(
    tmp_path: Path, fault: str, ending: Ending
) -> None:
    (arrival,) = dispatched(opened(tmp_path / "free"), "a-0", now_s=5.0)
    simulated = opened(tmp_path / "faulty", TIMED + f"\n{fault} = 1.0")
    ended = {end.device: end for end in dispatched(simulated, "a-0", "a-1", now_s=5.0)}
    assert ended.keys() == {"a-0", "a-1"} and simulated.workload.trained == []
    for end in ended.values():
        assert end.ending is ending and 5.0 < end.at_s < arrival.at_s
    assert ended["a-0"].at_s != ended["a-1"].at_s


def test_a_dispatch_without_an_open_round_is_refused(tmp_path: Path) -> None:
    simulated = prepare(tmp_path / "run", TIMED)
    with pytest.raises(RuntimeError, match="without an open round"):
        dispatched(simulated, "a-0")
    simulated.engine.log.close()
    simulated.engine.ledger.close()
