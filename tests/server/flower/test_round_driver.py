"""Rounds that whoever calls drives: what a step asks for is done in it, its turn last, and time passes on request."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.errors import ConfigError, JoinRefused, RunError
from fedcore.core.rounds import events
from fedcore.core.rounds.state import Phase
from fedcore.protos.values import AssignmentFailure, Join
from fedcore.server.flower.round_driver import MAX_REPORT, FlowerDriver
from fedcore.server.run.journal import read_events
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from tests.server.conftest import TinyModel
from tests.server.members.test_admission import JOIN
from tests.tiny_run import tiny_config
from tests.tiny_tier import answer


class Clock:
    """Stands still unless a test moves it."""

    def __init__(self) -> None:
        self.now_s = 1e9  # after every moment a driver has opened at

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def driver(tiny: TinyModel, tmp_path: Path) -> Iterator[FlowerDriver]:
    made = begun(tiny, tmp_path / "run")
    yield made
    made.close()


def begun(tiny: TinyModel, root: Path, *overrides: str) -> FlowerDriver:
    root.mkdir()
    config = tiny_config(tiny.folder, ["run.rounds=2", "coordinator.join_deadline_s=1e12", *overrides])
    made = FlowerDriver.open(Run.create(RunFolder(root), config, tiny.folder))
    made.clock = Clock()
    return made


def joining(driver: FlowerDriver, name: str, **changes: object) -> Join:
    profile = DeviceProfile(name=name, device_class="tiny", num_examples=4, label_counts=(("a", 2), ("b", 2)))
    facts = {"name": name, "profile": profile, "fingerprint": driver.description.fingerprint, "max_length": 8}
    return replace(JOIN, **{**facts, "labels": ("a", "b"), **changes})


def opened(driver: FlowerDriver, names: str = "ab") -> FlowerDriver:
    for name in names:
        driver.join(joining(driver, name))
    assert driver.machine.phase is Phase.OPEN and sorted(driver.pushed) == sorted(names)
    return driver


def logged(driver: FlowerDriver, *kinds: str) -> list[tuple[str, object]]:
    said = read_events(driver.run.folder.events)
    return [(each["event"], each.get("device", each.get("round"))) for each in said if each["event"] in kinds]


def test_a_round_is_pushed_once_enough_are_here_and_closed_with_its_last_update(driver: FlowerDriver) -> None:
    opened(driver)
    works = dict(driver.pushed)
    driver.take("b", answer("b", works["b"]))
    driver.take("a", answer("a", works["a"]))
    assert driver.machine.round == 2 and {work.round for work in driver.pushed.values()} == {2}
    told = logged(driver, "pushed", "accepted", "round_closed", "committed")
    assert told == [
        *(("pushed", "a"), ("pushed", "b"), ("accepted", "b"), ("accepted", "a")),
        *(("round_closed", 1), ("committed", 1)),  # what was accepted is counted before its round closes
        *(("pushed", "a"), ("pushed", "b")),
    ]
    assert not driver.over
    for name in "ab":
        driver.take(name, answer(name, driver.pushed[name]))
    assert driver.over and driver.fault is None
    assert driver.finish()["totals"]["rounds"] == 2


def test_copies_and_latecomers_are_told_apart_and_a_late_one_before_the_turn_it_comes_with(
    driver: FlowerDriver,
) -> None:
    opened(driver)
    works = dict(driver.pushed)
    driver.take("a", answer("a", works["a"]))
    driver.take("a", answer("a", works["a"]))
    assert isinstance(driver.clock, Clock)
    driver.clock.now_s += 10.0  # the deadline, of which nobody has told the machine yet
    driver.feed(events.UpdateArrived(device="b", round=1, now_s=driver.now_s))
    assert logged(driver, "duplicate", "late", "round_closed") == [
        ("duplicate", "a"),
        ("late", "b"),
        ("round_closed", 1),
    ]


def test_what_does_not_fit_ends_a_devices_part_in_the_round(driver: FlowerDriver) -> None:
    opened(driver, "ab")
    driver.take("a", replace(answer("a", driver.pushed["a"]), keep_set="sha256:" + "0" * 64))
    driver.failed("b", AssignmentFailure(round=1, message="x" * (MAX_REPORT + 1)))
    assert logged(driver, "rejected", "failed", "round_closed") == [
        ("rejected", "a"),
        ("failed", "b"),
        ("round_closed", 1),
    ]
    messages = {each["event"]: each.get("message") for each in read_events(driver.run.folder.events)}
    assert messages["failed"] == "x" * MAX_REPORT and driver.machine.void_streak == 1


def test_a_round_is_closed_before_its_deadline_and_the_clock_is_ahead_from_then_on(driver: FlowerDriver) -> None:
    opened(driver)
    driver.take("a", answer("a", driver.pushed["a"]))
    before = driver.now_s
    driver.expire(2)
    assert driver.machine.round == 1, "it is another round's turn"
    driver.expire(1)
    assert driver.machine.round == 2 and driver.now_s == before + 10.0
    assert [row["status"] for row in driver.run.ledger.outcomes()[1]] == ["accepted", "missed_deadline"]


def test_time_that_is_held_does_not_count(driver: FlowerDriver) -> None:
    opened(driver)
    assert isinstance(driver.clock, Clock)
    driver.clock.now_s += 1000.0
    driver.skip_time()
    driver.tick()
    assert driver.machine.round == 1 and driver.left_s == 10.0


def test_a_device_that_is_lost_is_given_its_work_again_when_it_is_back(driver: FlowerDriver) -> None:
    opened(driver)
    driver.lost("b", "its node is gone")
    assert sorted(driver.pushed) == ["a"]
    driver.alive("a")
    driver.alive("b")
    assert sorted(driver.pushed) == ["a", "b"] and driver.machine.pending == 2
    assert logged(driver, "left", "pushed") == [("pushed", "a"), ("pushed", "b"), ("left", "b"), ("pushed", "b")]


def test_a_newcomer_that_does_not_fit_is_refused_and_written_down(driver: FlowerDriver) -> None:
    with pytest.raises((JoinRefused, ConfigError)):
        driver.join(joining(driver, "a", max_length=9))
    assert logged(driver, "refused", "joined") == [("refused", "a")] and not driver.profiles


def test_labels_that_nobody_named_are_those_of_the_first_who_come(tiny: TinyModel, tmp_path: Path) -> None:
    driver = begun(tiny, tmp_path / "run", "data.labels=[]")
    try:
        with pytest.raises(RunError, match="no device has joined yet"):
            driver.welcome()
        with pytest.raises(JoinRefused, match="carry only the labels"):
            driver.agree(["a"])
        driver.agree(["a", "b"])
        engine = driver.engine
        driver.agree(["x", "y"])
        assert driver.engine is engine and driver.welcome().labels == ("a", "b")
    finally:
        driver.close()


def test_a_pause_is_kept_for_whoever_asks_next(driver: FlowerDriver) -> None:
    opened(driver)
    driver.feed(events.Stop(now_s=driver.now_s))
    assert isinstance(driver.fault, RunError) and "stopped on request in round 1" in str(driver.fault)


def test_a_payload_is_spooled_where_it_is_large_and_deleted_with_its_round(driver: FlowerDriver) -> None:
    opened(driver)
    large, little = driver.store(b"x" * (1 << 17), "update"), driver.store(b"x", "update")
    assert not large.inline and driver.run.blobs.has(large.id)
    assert little.inline == b"x" and not driver.run.blobs.has(little.id)
    driver.expire(1)
    assert not driver.run.blobs.has(large.id)
