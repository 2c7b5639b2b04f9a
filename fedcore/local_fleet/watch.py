"""Watching a local fleet: what its events say, and which of its processes have ended too early."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fedcore.core.config.tables import Config
from fedcore.core.errors import RunError
from fedcore.local_fleet.event_tail import POLL_S, EventTail
from fedcore.local_fleet.processes import Child
from fedcore.local_fleet.progress import DeviceLine, RunProgress, advance
from fedcore.local_fleet.view import View
from fedcore.server.run.run_folder import RunFolder

COORDINATOR = "coordinator"
EVALUATOR = "evaluator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """The processes of a fleet at work, by name. `members` are the evaluator and the devices."""

    config: Config
    coordinator: Child
    members: Mapping[str, Child]
    edges: Mapping[str, Child] = field(default_factory=dict)

    @property
    def devices(self) -> list[str]:
        """Names of the devices."""
        return [name for name in self.members if name != EVALUATOR]

    def beginning(self) -> RunProgress:
        """Every device starting."""
        lines = {name: DeviceLine(device_class=name.rpartition("-")[0]) for name in self.devices}
        return RunProgress(total_rounds=self.config.run.rounds, devices=lines)

    def lost(self) -> dict[str, str]:
        """Members and edges that ended before the run did, and their last words."""
        everybody = (*self.members.items(), *self.edges.items())
        return {name: child.last_words() for name, child in everybody if child.failed}

    def check_enough(self, lost: Mapping[str, str], *, begun: bool) -> None:
        """Raise RunError where too few devices live for the run to begin, or none for it to go on."""
        devices = self.devices
        gone = [name for name in devices if name in lost]
        needed = 1 if begun else self.config.coordinator.min_devices
        if len(devices) - len(gone) < needed:
            raise RunError(
                f"{len(gone)} of {len(devices)} devices have ended, and the run needs {needed} to "
                f"{'go on' if begun else 'begin'}; the last one, {gone[-1]}: {lost[gone[-1]]}"
            )


def watch(folder: RunFolder, crew: Crew, view: View) -> None:
    """Show the run until the coordinator ends, and tell of members that ended before it.

    Raises RunError as soon as too few devices are left.
    """
    progress = crew.beginning()
    tail = EventTail(folder.events)
    told: set[str] = set()
    begun = False  # since the coordinator was started
    while True:
        over = crew.coordinator.process.poll() is not None
        for event in tail.read():
            progress = advance(progress, event)
            begun = event["event"] == "choice" or (begun and event["event"] != "started")
        lost = crew.lost()
        for name in sorted(set(lost) - told):
            progress = _without(progress, name, lost[name])
        told |= set(lost)
        view.show(progress)
        if over:
            return
        crew.check_enough(lost, begun=begun)
        time.sleep(POLL_S)


def _without(progress: RunProgress, name: str, words: str) -> RunProgress:
    devices = dict(progress.devices)
    if name in devices:
        devices[name] = replace(devices[name], state="ended")
    progress = replace(progress, devices=devices)
    if f"refused: {words}" in progress.notes:  # the coordinator has told it already
        return progress
    return replace(progress, notes=(*progress.notes, f"{name} ended: {words}"))
