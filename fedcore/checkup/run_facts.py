"""Find out everything about a configured run that can be known before it begins, all that stops it included."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from fedcore.checkup.class_costs import ClassCost, RunCost, class_costs, run_cost
from fedcore.client.data.labels import labelled_rows
from fedcore.client.data.rows import Rows
from fedcore.client.data.shards import dealt_rows, fleet_rows
from fedcore.core.config.tables import Config
from fedcore.core.contract.protocols import Strategy
from fedcore.core.data.device_rows import FleetRows
from fedcore.core.errors import FedcoreError
from fedcore.local_fleet.preflight import ready_fleet, try_model
from fedcore.server.run.preflight import check_run, refusals
from fedcore.simulation.setup import read_setup
from fedcore.storage.models.model_source import model_folder
from fedcore.strategies.overruled import overruled
from fedcore.strategies.policy.policy import Policy

T = TypeVar("T")

SERVED = "fedcore serve needs no [[fleet.class]] tables: its devices bring rows, classes and limits when they join"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What is known of a run. `rows` and `cost` are None, and `classes` empty, where a problem hides them."""

    config: Config  # with its labels, where they are known
    can_begin: bool  # though perhaps without some class
    command: str  # the command that it was judged for: "fleet" or "simulate"
    rows: FleetRows | None
    classes: tuple[ClassCost, ...]
    cost: RunCost | None
    problems: tuple[str, ...]  # each stops the run, or a class from joining, in the words of the run itself
    doubts: tuple[str, ...]


@dataclass(slots=True)
class _Findings:
    """What was found so far."""

    config: Config
    rows: FleetRows | None = None
    strategy: Strategy | None = None
    problems: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def tried(self, find: Callable[[], T]) -> T | None:
        """Return what `find` finds, or note as a problem what it raises; what was noted before is not repeated."""
        try:
            return find()
        except FedcoreError as error:
            if not any(str(error) in problem for problem in self.problems):
                self.problems.append(str(error))
            return None


def examine_run(config: Config) -> RunFacts:
    """Return the facts of a run.

    The run is judged as `fedcore fleet` would, or as `fedcore simulate` where only that could run it: with rows that
    devices share, or without training.
    """
    simulated = bool(config.simulation.rows_per_device) or config.simulation.training == "none"
    found = _Findings(config)
    found.tried(lambda: _simulation(found) if simulated else _fleet(found))
    can_begin = not found.problems
    if not can_begin:
        _look_on(found)
    if not found.config.classes:
        found.doubts.append(SERVED)
    with contextlib.suppress(FedcoreError):  # an unknown strategy is a problem already
        if changed := overruled(found.config):
            found.doubts.append(f"under strategy {found.config.strategy.name}, {'; '.join(changed)}")
    policy = found.strategy if isinstance(found.strategy, Policy) else None
    if found.strategy is not None:
        for _, error in refusals(found.config, found.strategy):
            found.tried(lambda error=error: _raise(error))  # type: ignore[misc]
    most = {} if found.rows is None else found.rows.most_by_class
    return RunFacts(
        config=found.config,
        can_begin=can_begin,
        command="simulate" if simulated else "fleet",
        rows=found.rows,
        classes=() if policy is None else class_costs(policy, most),
        cost=None if policy is None or not found.config.classes else run_cost(policy, most),
        problems=tuple(found.problems),
        doubts=tuple(found.doubts),
    )


def _fleet(found: _Findings) -> None:
    ready = ready_fleet(found.config, found.doubts.append)
    found.config, found.strategy, found.rows = ready.config, ready.strategy, ready.rows()
    try_model(ready.config)


def _simulation(found: _Findings) -> None:
    setup = read_setup(found.config, found.doubts.append)
    found.config, found.rows = setup.config, setup.rows()
    found.strategy = check_run(setup.config, setup.model)  # the setup's own may have a narrower adapter


def _look_on(found: _Findings) -> None:
    """Find what else there is, one thing after the other, in a run that is refused."""
    read = None
    if found.rows is None and found.config.simulation.training != "none":
        read = found.tried(lambda: labelled_rows(found.config))
    if read is not None:
        found.config = read[0]
        found.rows = _dealt(*read)
    if found.strategy is None:
        found.strategy = found.tried(lambda: check_run(found.config, model_folder(found.config.model.path)))


def _dealt(config: Config, training: Rows, test: Rows) -> FleetRows:
    """Return the rows of every device as a fleet deals them; without devices where they cannot be dealt."""
    try:
        return dealt_rows(config, training, test)
    except FedcoreError:
        return fleet_rows(config, training, test, ())


def _raise(error: FedcoreError) -> None:
    raise error
