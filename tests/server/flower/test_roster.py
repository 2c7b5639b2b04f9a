"""Nodes become devices by their join, once; nodes that are gone, refused or silent are noted with the reason."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flwr.supercore.task_identity import TaskIdentity

from fedcore.server.flower import replies
from fedcore.server.flower.roster import TRIES, Roster
from fedcore.server.flower.round_driver import FlowerDriver
from fedcore.server.run.journal import read_events
from tests.server.conftest import TinyModel
from tests.server.flower.fake_node import FakeNodes, right
from tests.server.flower.test_round_driver import begun


@pytest.fixture
def driver(tiny: TinyModel, tmp_path: Path) -> Iterator[FlowerDriver]:
    made = begun(tiny, tmp_path / "run", "coordinator.join_deadline_s=1")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "PAUSE_S", 0.0)
    for name in ("task_id", "run_id", "node_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)


class Clock:
    """Every look at it costs a tenth of a second."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 0.1
        return self.now_s


def nodes(tiny: TinyModel, *names: str) -> FakeNodes:
    return FakeNodes(tiny.mark, tiny.geometry, dict.fromkeys(names, right))


def events(driver: FlowerDriver, kind: str) -> list[tuple[str, str]]:
    found = [event for event in read_events(driver.run.folder.events) if event["event"] == kind]
    return [(event["device"], str(event.get("message", event.get("reason", "")))) for event in found]


def test_nodes_join_once_in_the_order_of_their_names(driver: FlowerDriver, tiny: TinyModel) -> None:
    grid, roster = nodes(tiny, "b", "a"), Roster(driver)
    for _ in range(2):
        roster.refresh(grid)
    assert events(driver, "joined") == [("a", ""), ("b", "")] and roster.refusal == ""
    assert (roster.node("a"), roster.node("b"), roster.device(12), roster.device(99)) == (12, 11, "a", None)


def test_a_node_that_is_listed_no_more_is_lost_and_joins_again(driver: FlowerDriver, tiny: TinyModel) -> None:
    grid, roster = nodes(tiny, "a", "b"), Roster(driver)
    roster.refresh(grid)
    grid.gone = {"a"}
    roster.refresh(grid)
    assert events(driver, "left") == [("a", "Flower lists its node no more")] and roster.device(11) is None
    grid.gone = set()
    roster.refresh(grid)
    assert roster.node("a") == 11 and [name for name, _ in events(driver, "joined")] == ["a", "b", "a"]


def test_a_second_node_of_a_name_is_refused_and_not_asked_again(driver: FlowerDriver, tiny: TinyModel) -> None:
    grid, roster = nodes(tiny, "a", "twin"), Roster(driver)
    grid.names[12] = "a"
    for _ in range(2):
        roster.refresh(grid)
    assert roster.refusal == "another node is the device a; give every node its own name"
    assert events(driver, "refused") == [("node 12", roster.refusal)] and roster.node("a") == 11


def test_a_silent_node_is_asked_three_times(
    driver: FlowerDriver, tiny: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    grid = nodes(tiny, "a", "mute")
    grid.silent = {"mute"}
    roster = Roster(driver, clock=Clock())
    for number in range(1, TRIES + 2):
        roster.refresh(grid)
        assert bool(roster.refusal) == (number >= TRIES), number
    assert events(driver, "refused") == [("node 12", "no answer to 3 joins, for 1 s each")]
    assert len(grid.messages) == TRIES and roster.node("a") == 11
