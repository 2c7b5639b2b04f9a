"""Which of Flower's nodes is which device: who is asked to join, how often, and who is gone."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest
from flwr.supercore.task_identity import TaskIdentity

from fedcore.core.errors import JoinRefused
from fedcore.core.model.geometry import Geometry
from fedcore.protos.values import Join
from fedcore.server.flower import replies
from fedcore.server.flower.roster import TRIES, Roster
from fedcore.server.flower.round_driver import FlowerDriver
from tests.server.flower.fake_node import FakeNodes, right
from tests.server.members.fake_parent import DESCRIPTION
from tests.server.members.test_admission import MARK
from tests.tiny_run import LABELS


@dataclass
class FakeDriver:
    """Notes what it is told of devices; devices in `refusing` may not join."""

    refusing: set[str] = field(default_factory=set)
    done: list[tuple[str, ...]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)
    description = DESCRIPTION
    join_deadline_s: float = 30.0

    @property
    def run(self) -> Any:
        coordinator = SimpleNamespace(join_deadline_s=self.join_deadline_s)
        return SimpleNamespace(config=SimpleNamespace(coordinator=coordinator), log=self)

    def event(self, kind: str, **fields: Any) -> None:
        assert kind == "refused"
        self.refused.append((fields["device"], fields["message"]))

    def skip_time(self) -> None:
        self.done.append(("skip time",))

    def agree(self, labels: list[str]) -> None:
        self.done.append(("agree", *labels))

    def join(self, join: Join) -> None:
        if join.name in self.refusing:
            raise JoinRefused(f"{join.name} has too little memory")
        self.done.append(("join", join.name))

    def alive(self, device: str) -> None:
        self.done.append(("alive", device))

    def lost(self, device: str, reason: str) -> None:
        self.done.append(("lost", device))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replies, "PAUSE_S", 0.0)
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1


def nodes(names: str) -> FakeNodes:
    return FakeNodes(MARK, cast(Geometry, None), dict.fromkeys(names, right))


def roster(driver: FakeDriver) -> Roster:
    """A roster whose clock moves on by a limit at every look, so that no test waits for a silent node."""
    moments = iter(range(0, 10**6, 30))
    return Roster(cast(FlowerDriver, driver), clock=lambda: next(moments) + 0.0)


def test_newcomers_join_in_order_of_their_names_and_others_are_alive() -> None:
    driver, grid = FakeDriver(), nodes("ba")
    made = roster(driver)
    made.refresh(grid)
    assert driver.done == [("skip time",), ("agree", *LABELS), ("join", "a"), ("join", "b")]
    assert (made.node("b"), made.node("a"), made.device(12), made.device(13)) == (11, 12, "a", None)
    driver.done.clear()
    made.refresh(grid)
    assert driver.done == [("skip time",), ("alive", "a"), ("alive", "b")]


def test_one_that_flower_lists_no_more_is_lost_and_joins_anew() -> None:
    driver, grid = FakeDriver(), nodes("ab")
    made = roster(driver)
    made.refresh(grid)
    driver.done.clear()
    grid.gone.add("a")
    made.refresh(grid)
    assert driver.done == [("skip time",), ("lost", "a"), ("alive", "b")] and made.device(11) is None
    grid.gone.clear()
    made.refresh(grid)
    assert driver.done[-1] == ("join", "a") and made.node("a") == 11


def test_a_silent_node_is_asked_three_times_and_then_no_more() -> None:
    driver, grid = FakeDriver(), nodes("ab")
    grid.silent.add("a")
    made = roster(driver)
    for number in range(1, TRIES + 2):
        made.refresh(grid)
        assert len(driver.refused) == (number >= 3)
    assert driver.refused == [("node 11", "no answer to 3 joins, for 30 s each")]
    assert made.refusal == "no answer to 3 joins, for 30 s each" and len(grid.messages) == 3
    grid.silent.clear()
    made.refresh(grid)
    assert made.device(11) is None, "refused for as long as the app runs"


def test_one_that_answers_its_last_try_is_no_stranger() -> None:
    driver, grid = FakeDriver(), nodes("a")
    grid.silent.add("a")
    made = roster(driver)
    for _ in range(TRIES - 1):
        made.refresh(grid)
    grid.silent.clear()
    made.refresh(grid)
    assert made.node("a") == 11 and driver.refused == [] and made.refusal == ""


def test_a_refused_node_is_not_asked_again_and_its_reason_is_kept() -> None:
    driver, grid = FakeDriver(refusing={"b"}), nodes("abc")
    made = roster(driver)
    for _ in range(2):
        made.refresh(grid)
    assert driver.refused == [("node 12", "b has too little memory")] and made.refusal == "b has too little memory"
    assert made.device(12) is None and driver.done.count(("join", "c")) == 1


def test_a_second_node_of_a_name_is_refused_and_the_first_stays() -> None:
    driver, grid = FakeDriver(), nodes("ab")
    made = roster(driver)
    grid.names[12] = "a"
    made.refresh(grid)
    assert made.node("a") == 11
    assert driver.refused == [("node 12", "another node is the device a; give every node its own name")]
