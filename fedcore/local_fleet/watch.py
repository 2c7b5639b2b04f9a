"""Watch a local fleet: show its events, and notice processes that have ended too early."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from fedcore.core.config.tables import Config
from fedcore.core.errors import RunError
from fedcore.local_fleet.complaints import ERROR, told_by
from fedcore.local_fleet.event_tail import POLL_S, EventTail
from fedcore.local_fleet.processes import KILLED, Child
from fedcore.local_fleet.progress import DeviceLine, RunProgress, advance
from fedcore.local_fleet.view import View
from fedcore.server.run.run_folder import RunFolder

COORDINATOR = "coordinator"
EVALUATOR = "evaluator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Crew:
    """The processes of a running fleet, by name. `members` are the evaluator and the devices."""

    config: Config
    coordinator: Child
    members: Mapping[str, Child]
    edges: Mapping[str, Child] = field(default_factory=dict)

    @property
    def devices(self) -> list[str]:
        """The names of the devices."""
        return [name for name in self.members if name != EVALUATOR]

    def beginning(self) -> RunProgress:
        """Return the progress before the first event: every device is starting."""
        lines = {name: DeviceLine(device_class=name.rpartition("-")[0]) for name in self.devices}
        return RunProgress(total_rounds=self.config.run.rounds, devices=lines)

    def lost(self) -> dict[str, str]:
        """Return the members and edges that have failed, with their last messages."""
        children = (*self.members.items(), *self.edges.items())
        return {name: child.last_words() for name, child in children if child.failed}

    def causes(self) -> str:
        """What members and edges say is wrong, as the end of the coordinator's last words.

        Nothing where it ended well, or was killed: then they complain of its being gone.
        """
        if not self.coordinator.failed or self.coordinator.last_words().startswith(KILLED):
            return ""
        logs = {
            name: f"{ERROR}{child.last_words()}" if child.failed else child.output()
            for name, child in (*self.members.items(), *self.edges.items())
        }
        return told_by(logs, known=self.coordinator.last_words())

    def check_enough(self, lost: Mapping[str, str], *, begun: bool) -> None:
        """Raise RunError where too few devices are left for the run to begin, or none for it to continue."""
        devices = self.devices
        ended = [name for name in devices if name in lost]
        needed = 1 if begun else self.config.coordinator.min_devices
        if len(devices) - len(ended) < needed:
            raise RunError(
                f"{len(ended)} of {len(devices)} devices have ended, and the run needs {needed} to "
                f"{'go on' if begun else 'begin'}; the last one, {ended[-1]}: {lost[ended[-1]]}"
            )


def watch(folder: RunFolder, crew: Crew, view: View) -> None:
    """Show the run until the coordinator ends, with a note for every process that fails before.

    Raises RunError as soon as too few devices are left.
    """
    progress = crew.beginning()
    tail = EventTail(folder.events)
    reported: set[str] = set()
    begun = False  # a round has begun since the coordinator's last start
    while True:
        over = crew.coordinator.process.poll() is not None
        for event in tail.read():
            progress = advance(progress, event)
            begun = event["event"] == "choice" or (begun and event["event"] != "started")
        lost = crew.lost()
        for name in sorted(set(lost) - reported):
            progress = _without(progress, name, lost[name])
        reported |= set(lost)
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
    if f"refused: {words}" in progress.notes:  # the coordinator's event has noted it already
        return progress
    return replace(progress, notes=(*progress.notes, f"{name} ended: {words}"))
