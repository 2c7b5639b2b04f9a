"""A coordinator, edges and devices without I/O, and what may happen to them.

Every link is first in, first out; links overtake each other as the dice say. A broken link loses what was on it, and
its upper end notices later. A dead edge leaves nothing; its successor of the same name knows nothing.
"""

from collections import defaultdict
from random import Random

from fedcore.core.rounds.result import MemberStatus, RoundResult
from fedcore.core.rounds.state import Phase
from fedcore.core.rounds.tier import events as up
from fedcore.core.rounds.tier.state import Decision
from tests.core.rounds.tree_shells import LEASE_S, Device, Edge, Link, Parent, Root


class Tree:
    """All parties, the links between them, and the properties that must hold."""

    def __init__(
        self, dice: Random, *, levels: list[int], devices: int, edge_deadline_s: float, root_remembers: bool
    ) -> None:
        self.dice, self.now_s = dice, 0.0
        self.edge_deadline_s, self.root_remembers = edge_deadline_s, root_remembers
        self.links: list[Link] = []
        self.lives = 0
        self.reached: defaultdict[tuple[int, str], list[Parent]] = defaultdict(list)
        self.failed: set[tuple[str, int]] = set()
        self.moved: set[str] = set()  # in this round
        self.unheard: set[str] = set()  # in a partial that came to a parent that did not know the round
        self.root = Root(self)
        self.edges = [self.edge(f"edge-{index}", level) for index, level in enumerate(levels)]
        self.devices = {f"d{index}": Device(self, f"d{index}", 2**index) for index in range(devices)}
        self.reconnect_all()

    def edge(self, name: str, level: int) -> Edge:
        """Restart an edge, with numbers above those of its earlier life."""
        self.lives += 1
        return Edge(self, name, level, 1000 * self.lives)

    def link(self, child: Device | Edge, parent: Edge | Root) -> Link:
        self.links.append(Link(child, parent))
        return self.links[-1]

    # --- what happens ---

    def pass_one(self) -> bool:
        """Deliver one message of one link; False where none is on its way."""
        ready = [(link, queue) for link in self.links for queue in (link.upward, link.downward) if queue]
        if not ready:
            return False
        link, queue = self.dice.choice(ready)
        message = queue.popleft()
        if queue is link.downward:
            link.child.receive(*message)
        elif isinstance(link.parent, Root) or link.parent.alive:
            link.parent.take(link, message)
        self.links = [each for each in self.links if each.upward or each.downward or not each.broken]
        return True

    def work_one(self, fail_chance: float) -> bool:
        """Let one device answer its assignment; False where none has one."""
        busy = [each for each in self.devices.values() if each.alive and each.link is not None and each.work]
        if not busy:
            return False
        self.dice.choice(busy).answer(fails=self.dice.random() < fail_chance)
        return True

    def pass_time(self, seconds: float = 1.0) -> None:
        self.now_s += seconds
        for edge in self.edges:
            if edge.alive:
                edge.feed(up.Tick(now_s=self.now_s))
        self.root.alive()

    def pass_a_little_time(self) -> None:
        """Less than a lease in all, so that no living device is lost."""
        if self.now_s < self.root.state.opened_at_s + LEASE_S / 2:
            self.pass_time()

    def duplicate_one(self) -> None:
        device = self.dice.choice(list(self.devices.values()))
        if device.alive and device.link is not None and device.sent:
            device.link.up("update", device.name, device.sent, device.value)

    def break_link(self, link: Link | None) -> None:
        """Lose what is on a link; its upper end hears of it later."""
        if link is None or link.broken:
            return
        link.upward.clear()
        link.downward.clear()
        link.upward.append(("broken",))
        link.broken = True
        link.child.link = None

    def break_one(self) -> None:
        nodes: list[Device | Edge] = [*self.edges, *self.devices.values()]
        self.break_link(self.dice.choice(nodes).link)

    def move_one(self) -> None:
        device = self.dice.choice(list(self.devices.values()))
        if device.alive:
            self.break_link(device.link)
            self.reconnect(device)

    def kill_device(self) -> None:
        device = self.dice.choice(list(self.devices.values()))
        device.alive = False
        self.break_link(device.link)

    def kill_edge(self) -> None:
        """End an edge with all it knows; its successor knows nothing."""
        if not self.edges:
            return
        place = self.dice.randrange(len(self.edges))
        edge = self.edges[place]
        edge.alive = False
        for link in [each for each in self.links if each.child is edge or each.parent is edge]:
            self.break_link(link)
        self.edges[place] = self.edge(edge.name, edge.level)

    def reconnect(self, node: Device | Edge) -> None:
        level = node.level if isinstance(node, Edge) else 99
        edges = [edge for edge in self.edges if edge.level < level]
        parent = self.dice.choice(edges) if edges and self.dice.random() < 0.9 else self.root
        if isinstance(node, Edge):
            node.connect(parent, leaves_first=self.dice.random() < 0.5)
        else:
            self.moved.add(node.name)
            node.connect(parent)

    def reconnect_one(self) -> None:
        orphans = self.orphans()
        if orphans:
            self.reconnect(self.dice.choice(orphans))

    def orphans(self) -> list[Device | Edge]:
        here: list[Device | Edge] = [*self.edges, *(each for each in self.devices.values() if each.alive)]
        return [each for each in here if each.link is None]

    def reconnect_all(self) -> None:
        for node in self.orphans():
            self.reconnect(node)

    def settle(self) -> None:
        """No more faults: every party comes back, every message arrives, every device answers."""
        self.reconnect_all()
        for _ in range(20000):
            if not self.pass_one() and not self.work_one(0.0):
                return
        raise AssertionError("messages without an end")

    def come_together(self) -> None:
        """Between rounds: some messages of the last one may be on their way, but the coordinator sees every device."""
        alive = {name for name, each in self.devices.items() if each.alive}
        self.reconnect_all()
        while self.root.turn is None or not alive <= set(self.root.state.roster):
            if not self.pass_one():
                return

    def begin_round(self) -> None:
        """Hand out assignments to most of the devices that are here."""
        self.moved.clear()
        self.unheard.clear()
        self.root.open_round()

    def end_round(self) -> None:
        """The round closes without a deadline, and then every party is told.

        An update that no party is left to send is lost after one lease; any longer wait would be in vain.
        """
        self.settle()
        for _ in range(int(LEASE_S) + 1):
            if self.root.state.phase is Phase.OPEN:
                self.pass_time()
                self.settle()
        assert self.root.state.phase is not Phase.OPEN, "the round waits in vain"
        self.root.close_round()

    # --- what must hold ---

    def check_decision(self, number: int, decision: Decision, devices: tuple[str, ...]) -> None:
        if decision in (Decision.ACCEPTED, Decision.OVERLAP):
            assert set(devices) <= set(self.root.counted[number]), "acknowledged, and not counted at the root"

    def check_closed(self, closed: RoundResult, total: int) -> None:
        accepted = self.root.counted[closed.round]
        assert sorted(accepted) == list(closed.accepted), "a device counts twice, or not at all"
        assert total == sum(self.devices[name].value for name in accepted)
        for member in closed.members:
            device = self.devices[member.device]
            if (member.device, closed.round) in self.failed:
                continue
            stayed = member.device not in self.moved | self.unheard
            if device.alive or (stayed and self.kept(closed.round, member.device)):
                assert member.status is MemberStatus.ACCEPTED, member

    def kept(self, number: int, device: str) -> bool:
        """Whether a parent that is still there took the update."""
        return any(
            isinstance(each, Root) or (isinstance(each, Edge) and each.alive) for each in self.reached[number, device]
        )

    def check_empty(self) -> None:
        """After a close nothing of the round is left anywhere."""
        for edge in self.edges:
            assert not edge.state.submissions and not edge.state.parts
            assert not edge.updates and not edge.parts and edge.total == 0
