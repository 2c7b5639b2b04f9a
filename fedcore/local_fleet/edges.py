"""Start the edges of a local fleet from the top tier down: an edge needs the addresses of the tier above it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcore.core.errors import RunError
from fedcore.local_fleet.processes import Child, Processes
from fedcore.local_fleet.tiers import parents, tier_names
from fedcore.local_fleet.watch import COORDINATOR
from fedcore.server.run.run_folder import RunFolder
from fedcore.storage.json_file import read_endpoint

START_DEADLINE_S = 60.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The tiers of a fleet: the processes of its edges, and the addresses of the edges and the coordinator."""

    edges: Sequence[int]
    children: Mapping[str, Child]
    addresses: Mapping[str, str]

    def targets(self, device: int) -> str:
        """Return HOST:PORT of the parents of device number `device` (from 0), best first, separated by commas."""
        return self.parent_addresses(len(self.edges) + 1, device)

    def parent_addresses(self, tier: int, index: int) -> str:
        """Return HOST:PORT of the parents of number `index` of a tier, best first, separated by commas."""
        return ",".join(self.addresses[name] for name in parents(self.edges, tier, index))


def start_edges(
    folder: RunFolder, edges: Sequence[int], processes: Processes, coordinator: str, words: Sequence[str] = ()
) -> Tree:
    """Start every edge and wait until all listen; `coordinator` is where that one does, `words` go with the command.

    Raises RunError where an edge ends or does not listen in time.
    """
    tree = Tree(edges=edges, children={}, addresses={COORDINATOR: coordinator})
    for tier, names in enumerate(tier_names(edges), start=1):
        children = {
            name: processes.start(name, [*_arguments(folder, name, tree.parent_addresses(tier, index)), *words])
            for index, name in enumerate(names)
        }
        addresses = {name: listening_at(folder.edges / name / "edge.json", child) for name, child in children.items()}
        tree = Tree(edges=edges, children={**tree.children, **children}, addresses={**tree.addresses, **addresses})
    return tree


def listening_at(path: Path, child: Child) -> str:
    """Wait until `child` has written its address to `path`, and return that HOST:PORT.

    Raises RunError where the child ends before (with its last message), and where it takes too long.
    """
    deadline = time.monotonic() + START_DEADLINE_S
    while time.monotonic() < deadline:
        if child.process.poll() is not None:
            raise RunError(f"{child.name}: {child.last_words()}")
        endpoint = read_endpoint(path)
        if endpoint is not None and endpoint.pid == child.process.pid:  # else an earlier process wrote it
            return endpoint.address
        time.sleep(POLL_S)
    raise RunError(f"{child.name} did not listen within {START_DEADLINE_S:g} s (log: {child.log})")


def _arguments(folder: RunFolder, name: str, upstream: str) -> list[str]:
    options = ["--listen", "127.0.0.1:0", "--state", str(folder.edges / name), "--certs", str(folder.certificates)]
    # Advertise no address: in a local fleet every device is given its parents, so no newcomer is sent to an edge.
    return ["edge", "--upstream", upstream, "--name", name, *options, "--advertise", ""]
