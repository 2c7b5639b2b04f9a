"""Virtual rounds on the real machine and the real engine: faults of devices, repeated runs, resumed runs."""

import json
import math
from pathlib import Path

import pytest

from fedcore.core.contract.outcome import Status
from fedcore.core.contract.protocols import Json
from fedcore.core.errors import RunError
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.run_folder import RunFolder
from fedcore.simulation.fleet.availability import Traces
from tests.simulation.virtual import NamedWorkload, prepare

TIMED = "[[fleet.class]]\nname = 'a'\ncount = 4\nuplink_mbps = 0.01\ndownlink_mbps = 0.01"
FILES = ("events.jsonl", "rounds.csv")


def events(folder: RunFolder, kind: str) -> list[Json]:
    lines = folder.events.read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def outcomes(folder: RunFolder) -> dict[int, tuple[Json, ...]]:
    ledger = Ledger.open(folder.ledger, read_only=True)
    try:
        return ledger.outcomes()
    finally:
        ledger.close()


def test_every_device_counts_in_every_round_and_takes_its_modelled_time(tmp_path: Path) -> None:
    simulated = prepare(tmp_path / "run", TIMED)
    simulated.run()
    rows = outcomes(simulated.folder)
    assert sorted(rows) == [1, 2]
    for row in (*rows[1], *rows[2]):
        assert row["status"] == Status.ACCEPTED
        bits = 8 * (row["bytes_down"] + row["bytes_up"])
        assert row["download_s"] + row["upload_s"] == pytest.approx(bits / 1e4)
        assert row["time_s"] == pytest.approx(row["download_s"] + row["train_s"] + row["upload_s"])
        assert row["timing"] == "ok"
    assert simulated.workload.settled == [1, 2]


def test_equal_seeds_write_equal_bytes_and_another_seed_others(tmp_path: Path) -> None:
    kind = TIMED + "\nlink_sigma = 0.5\ndropout = 0.3\nfailure = 0.1"
    written = []
    for name, seed in (("one", 1), ("two", 1), ("three", 2)):
        simulated = prepare(tmp_path / name, kind, [f"run.seed={seed}", "run.rounds=4"])
        simulated.run()
        written.append([(simulated.folder.root / file).read_bytes() for file in FILES])
    assert written[0] == written[1]
    assert written[0] != written[2]


@pytest.mark.parametrize("chunk", [1, 3, 64])
def test_the_size_of_a_chunk_changes_nothing(tmp_path: Path, chunk: int) -> None:
    whole = prepare(tmp_path / "whole", TIMED)
    whole.run()
    parted = prepare(tmp_path / "parted", TIMED, [f"simulation.chunk_devices={chunk}"])
    parted.run()
    assert parted.engine.model.digest == whole.engine.model.digest
    assert (parted.folder.root / "rounds.csv").read_bytes() == (whole.folder.root / "rounds.csv").read_bytes()


def test_a_device_that_cannot_make_the_deadline_is_not_trained_and_misses_it(tmp_path: Path) -> None:
    slow = "\n[[fleet.class]]\nname = 'slow'\nuplink_mbps = 0.0001"
    simulated = prepare(tmp_path / "run", TIMED + slow, ["coordinator.round_deadline_s=30.0"])
    simulated.run()
    rows = {row["device"]: row for row in outcomes(simulated.folder)[1]}
    assert rows["slow-0"]["status"] == Status.MISSED_DEADLINE
    assert rows["slow-0"]["time_s"] == 30.0
    assert rows["a-0"]["status"] == Status.ACCEPTED
    assert simulated.engine.counted_rounds.keys() == {"a-0", "a-1", "a-2", "a-3"}


def test_a_device_that_fails_is_logged_and_the_others_count(tmp_path: Path) -> None:
    simulated = prepare(tmp_path / "run", TIMED, workload=NamedWorkload(failing=frozenset({"a-1"})))
    simulated.run()
    assert {row["device"]: row["status"] for row in outcomes(simulated.folder)[1]} == {
        "a-0": Status.ACCEPTED,
        "a-1": Status.REJECTED,
        "a-2": Status.ACCEPTED,
        "a-3": Status.ACCEPTED,
    }
    assert [event["message"] for event in events(simulated.folder, "failed")] == ["no memory"] * 2


def test_a_device_that_vanishes_is_lost_a_lease_later_and_comes_back(tmp_path: Path) -> None:
    kind = TIMED + "\ndropout = 1.0"
    times = ("coordinator.lease_s=1000.0", "coordinator.round_deadline_s=100.0", "coordinator.join_deadline_s=5000.0")
    simulated = prepare(tmp_path / "run", kind, times)
    with pytest.raises(RunError, match="rounds in a row missed quorum"):
        simulated.run()
    left = events(simulated.folder, "left")
    joined = [join for join in events(simulated.folder, "joined") if join["epoch"] == 2]
    assert {join["device"] for join in joined} == {"a-0", "a-1", "a-2", "a-3"}
    for join in joined:
        departure = next(event for event in left if event["device"] == join["device"])
        assert join["t"] == pytest.approx(departure["t"] + 1000.0)


def test_a_device_that_vanished_gets_its_work_again_while_the_round_is_open(tmp_path: Path) -> None:
    kind = "[[fleet.class]]\nname = 'a'\ncount = 8\nuplink_mbps = 0.01\ndownlink_mbps = 0.01\ndropout = 0.4"
    simulated = prepare(
        tmp_path / "run", kind, ["coordinator.lease_s=1.0", "coordinator.round_deadline_s=500.0", "run.rounds=6"]
    )
    simulated.run()
    pushed = [(event["round"], event["device"]) for event in events(simulated.folder, "pushed")]
    again = {pair for pair in pushed if pushed.count(pair) > 1}
    accepted = {(event["round"], event["device"]) for event in events(simulated.folder, "accepted")}
    assert again & accepted
    assert len(events(simulated.folder, "accepted")) == len(accepted)


def test_devices_take_part_only_while_they_are_online(tmp_path: Path) -> None:
    traces = Traces(spans={"a-0": ((0.0, math.inf),), "a-1": ((0.0, 1.0),), "a-2": ((40.0, math.inf),)})
    simulated = prepare(tmp_path / "run", TIMED, ["run.rounds=20", "coordinator.lease_s=2.0"], traces=traces)
    simulated.run()
    rows = outcomes(simulated.folder)
    assert {row["device"] for row in rows[1]} == {"a-0", "a-1"}
    assert {row["device"]: row["status"] for row in rows[1]}["a-1"] == Status.LOST
    assert {row["device"] for row in rows[20]} == {"a-0", "a-2"}
    first = min(event["t"] for event in events(simulated.folder, "pushed") if event["device"] == "a-2")
    assert first >= 40.0


def test_a_fleet_that_never_comes_back_ends_the_run_with_the_reason(tmp_path: Path) -> None:
    traces = Traces(spans={"a-0": ((0.0, 6.0),)})
    simulated = prepare(tmp_path / "run", TIMED, ["run.rounds=50", "coordinator.lease_s=1.0"], traces=traces)
    with pytest.raises(RunError, match="needs 1 device"):
        simulated.run()


@pytest.mark.parametrize("broken_after", [1, 2, 4])
def test_a_run_that_was_interrupted_resumes_to_the_same_bits(tmp_path: Path, broken_after: int) -> None:
    kind = TIMED + "\nlink_sigma = 0.3\nfailure = 0.1"
    whole = prepare(tmp_path / "whole", kind, ["run.rounds=6"])
    whole.run()
    broken = prepare(tmp_path / "broken", kind, ["run.rounds=6"])

    def stop() -> None:
        if broken.engine.model.adapter.round == broken_after:
            raise KeyboardInterrupt

    broken.driver.on_closed = stop
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    again = prepare(tmp_path / "broken", kind, ["run.rounds=6"], resume=True)
    again.run()
    assert again.engine.model.digest == whole.engine.model.digest
    assert outcomes(again.folder) == outcomes(whole.folder)


def test_at_one_moment_devices_come_before_the_machines_alarm(tmp_path: Path) -> None:
    """What happens at the deadline itself has happened by the time the machine looks."""
    simulated, happened = prepare(tmp_path / "run", TIMED), list[str]()
    driver = simulated.driver
    driver._at(5.0, lambda: happened.append("first"))
    driver._at(5.0, lambda: happened.append("second"))
    driver._alarm_at_s = 5.0
    for expected in (["first"], ["first", "second"]):
        driver._next()
        assert happened == expected and driver._alarm_at_s == 5.0 and driver.clock() == 5.0
    simulated.engine.log.close()
    simulated.engine.ledger.close()
