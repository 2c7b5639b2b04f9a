"""Starting the edges of a local fleet, tier by tier: whoever is started next must know where those above listen."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcore.core.errors import RunError
from fedcore.local_fleet.processes import Child, Processes
from fedcore.local_fleet.tiers import parents, tier_names
from fedcore.local_fleet.watch import COORDINATOR
from fedcore.server.run.run_folder import RunFolder

START_DEADLINE_S = 60.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The tiers of a fleet: the edges' processes, and where everybody listens, the coordinator included."""

    edges: Sequence[int]
    children: Mapping[str, Child]
    addresses: Mapping[str, str]

    def targets(self, device: int) -> str:
        """HOST:PORT of the parents of device number `device`, from 0, best first, separated by commas."""
        return self._listed(len(self.edges) + 1, device)

    def _listed(self, tier: int, index: int) -> str:
        return ",".join(self.addresses[name] for name in parents(self.edges, tier, index))


def start_edges(
    folder: RunFolder, edges: Sequence[int], processes: Processes, coordinator: str, words: Sequence[str] = ()
) -> Tree:
    """Start every edge and wait until all listen; `coordinator` is where that one does, `words` go with the command.

    Raises RunError where an edge ends or does not listen in time.
    """
    tree = Tree(edges=edges, children={}, addresses={COORDINATOR: coordinator})
    for tier, names in enumerate(tier_names(edges), start=1):
        started = {
            name: processes.start(name, [*_arguments(folder, name, tree._listed(tier, index)), *words])
            for index, name in enumerate(names)
        }
        listening = {name: listening_at(folder.edges / name / "edge.json", child) for name, child in started.items()}
        tree = Tree(edges=edges, children={**tree.children, **started}, addresses={**tree.addresses, **listening})
    return tree


def listening_at(path: Path, child: Child) -> str:
    """Wait until `child` has written where it listens to `path`, and return its HOST:PORT.

    Raises RunError with its last words where it ends before, and where it takes too long.
    """
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline:
        if child.process.poll() is not None:
            raise RunError(f"{child.name}: {child.last_words()}")
        if path.is_file():
            facts = json.loads(path.read_text())
            if facts["pid"] == child.process.pid:  # else an earlier process wrote it
                return str(facts["address"])
        time.sleep(POLL_S)
    raise RunError(f"{child.name} did not listen within {START_DEADLINE_S:g} s (log: {child.log})")


def _arguments(folder: RunFolder, name: str, upstream: str) -> list[str]:
    place = ["--listen", "127.0.0.1:0", "--state", str(folder.edges / name), "--certs", str(folder.certificates)]
    # Nobody is sent to it: in a local fleet everybody has been given a place.
    return ["edge", "--upstream", upstream, "--name", name, *place, "--advertise", ""]
