"""Shells of a coordinator, of edges and of devices, without I/O: they do what the machines ask for and nothing else.

Links are queues, an update of device i is the integer 2**i, and a sum of them shows how often each device is in it.
What a shell must know beside the machines' commands stands here in a few lines each:

- The newest session of a device is registered, known by the epochs along its path from the device upwards: an edge
  that moved presents its devices again, and its older path may still do so too.
- A device that loses its session, also to a newer one, or has none when its assignment comes, is `DeviceLeft`.
- A device is not reported lost while an update of it is here without an answer.
"""

from collections import defaultdict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fedcore.core.rounds import commands, events
from fedcore.core.rounds.machine import resume, step
from fedcore.core.rounds.policy import RoundPolicy
from fedcore.core.rounds.state import RoundState
from fedcore.core.rounds.tier import commands as down
from fedcore.core.rounds.tier import events as up
from fedcore.core.rounds.tier.machine import step as tier_step
from fedcore.core.rounds.tier.state import Decision, PartialId, TierState

if TYPE_CHECKING:
    from tests.core.rounds.simulated_tree import Tree

LEASE_S = 20.0
POLICY = RoundPolicy(
    total_rounds=100,
    quorum=0.01,
    deadline_s=1000.0,
    lease_s=LEASE_S,
    min_devices=1,
    max_void_rounds=100,
    join_deadline_s=1e9,
)

Message = tuple[Any, ...]


@dataclass(eq=False)
class Link:
    """One stream. `upward` and `downward` are what is on its way."""

    child: "Device | Edge"
    parent: "Edge | Root"
    upward: deque[Message] = field(default_factory=deque)
    downward: deque[Message] = field(default_factory=deque)
    broken: bool = False

    def up(self, *message: Any) -> None:
        if not self.broken:
            self.upward.append(message)

    def down(self, *message: Any) -> None:
        if not self.broken:
            self.downward.append(message)


Path = tuple[int, ...]  # epochs of the sessions from a device upwards: a larger one is newer


@dataclass(frozen=True)
class Session:
    link: Link
    path: Path


@dataclass(eq=False)
class Device:
    tree: "Tree"
    name: str
    value: int
    link: Link | None = None
    epoch: int = 0
    alive: bool = True
    work: int = 0  # round it was pushed and has not answered here yet
    sent: int = 0  # newest round it made an update for

    def connect(self, parent: "Edge | Root") -> None:
        self.epoch, self.work = self.epoch + 1, 0
        self.link = self.tree.link(self, parent)
        self.link.up("join", self.name, (self.epoch,))

    def receive(self, kind: str, *rest: Any) -> None:
        if kind == "work":
            self.work = rest[0]

    def answer(self, *, fails: bool) -> None:
        """Carry out the assignment, or send what was made for it before."""
        assert self.link is not None
        number, self.work = self.work, 0
        if fails:
            self.tree.failed.add((self.name, number))
            self.link.up("failed", self.name, number)
        else:
            self.sent = number
            self.link.up("update", self.name, number, self.value)


class Parent:
    """The common part of a coordinator and an edge: the sessions of devices."""

    def __init__(self, tree: "Tree") -> None:
        self.tree = tree
        self.sessions: dict[str, Session] = {}
        self.paths: defaultdict[str, Path] = defaultdict(tuple)
        self.edges: dict[str, Link] = {}

    def take(self, link: Link, message: Message) -> None:
        kind, *rest = message
        getattr(self, f"on_{kind}")(link, *rest)

    def on_edge(self, link: Link, name: str) -> None:
        self.edges[name] = link

    def on_join(self, link: Link, device: str, path: Path) -> None:
        if path >= self.paths[device]:
            self.paths[device] = path
            if device in self.sessions:
                self.replaced(device)
            self.sessions[device] = Session(link, path)
            self.on_session(device, path)

    def on_left(self, link: Link, device: str, path: Path, lost: bool) -> None:
        if self.sessions.get(device) == Session(link, path):
            del self.sessions[device]
            self.unseated(device, path, lost)

    def on_broken(self, link: Link) -> None:
        """The upper end notices; a device's parent watches its lease run out, where it is dead."""
        for device, session in [each for each in self.sessions.items() if each[1].link is link]:
            lost = isinstance(link.child, Device) and not link.child.alive
            self.on_left(link, device, session.path, lost)

    def on_session(self, device: str, path: Path) -> None:
        raise NotImplementedError

    def unseated(self, device: str, path: Path, lost: bool) -> None:
        raise NotImplementedError

    def replaced(self, device: str) -> None:
        """Another session of a device replaces this one."""

    def tell_closed(self, number: int) -> None:
        links = {
            id(link): link for link in (*self.edges.values(), *(session.link for session in self.sessions.values()))
        }
        for link in links.values():
            link.down("closed", number)

    def hand_out(self, number: int, devices: Iterable[str], deadline_at_s: float) -> list[str]:
        """Send assignments down; returns the devices that are not here."""
        shares: defaultdict[Link, list[str]] = defaultdict(list)
        absent = []
        for device in devices:
            if device not in self.sessions:
                absent.append(device)
            elif isinstance(self.sessions[device].link.child, Device):
                self.sessions[device].link.down("work", number)
            else:
                shares[self.sessions[device].link].append(device)
        for link, named in shares.items():
            link.down("share", number, tuple(named), deadline_at_s)
        return absent


class Root(Parent):
    def __init__(self, tree: "Tree") -> None:
        super().__init__(tree)
        self.state: RoundState = resume(POLICY)
        self.numbers: defaultdict[str, int] = defaultdict(int)
        self.total = 0
        self.counted: defaultdict[int, list[str]] = defaultdict(list)
        self.turn: commands.Turn | None = None
        self.merged: set[PartialId] = set()
        self.feed(events.Started(now_s=0.0))

    def feed(self, event: events.Event) -> None:
        self.state, orders = step(self.state, event)
        pushes = [order for order in orders if isinstance(order, commands.Push)]
        for order in orders:
            self.obey(order)
        if pushes:
            deadline_at_s = self.state.opened_at_s + self.tree.edge_deadline_s
            self.hand_out(pushes[0].round, [order.device for order in pushes], deadline_at_s)

    def obey(self, order: commands.Command) -> None:
        match order:
            case commands.Accept():
                self.count(order.round, order.device)
                self.total += self.tree.devices[order.device].value
                self.verdict(order.device, order.round, Decision.ACCEPTED)
            case commands.AckDuplicate():
                self.verdict(order.device, order.round, Decision.ACCEPTED)
            case commands.RefuseLate():
                self.verdict(order.device, order.round, Decision.LATE)
            case commands.AcceptPartial():
                self.count(order.round, *order.devices)
                self.merged.add(PartialId(child=order.edge, number=order.number))
                self.answer(order.edge, order.number, Decision.ACCEPTED)
            case commands.RefuseOverlap():
                self.answer(order.edge, order.number, Decision.OVERLAP, order.devices)
            case commands.RefusePartial():
                self.answer(order.edge, order.number, Decision.LATE)
            case commands.Turn():
                self.turn = order
            case commands.Pause() | commands.Finish():
                raise AssertionError(order)

    def count(self, number: int, *devices: str) -> None:
        self.counted[number] += devices

    def verdict(self, device: str, number: int, decision: Decision) -> None:
        if device in self.sessions and isinstance(self.sessions[device].link.child, Device):
            self.sessions[device].link.down("verdict", number, decision)

    def answer(self, edge: str, number: int, decision: Decision, devices: tuple[str, ...] = ()) -> None:
        if edge in self.edges:
            self.edges[edge].down("answer", number, decision, devices)

    def on_session(self, device: str, path: Path) -> None:
        self.numbers[device] += 1
        self.feed(events.Joined(device=device, epoch=self.numbers[device], now_s=self.tree.now_s))

    def unseated(self, device: str, path: Path, lost: bool) -> None:
        self.feed(events.Left(device=device, epoch=self.numbers[device], now_s=self.tree.now_s, lost=lost))

    def on_update(self, link: Link, device: str, number: int, value: int) -> None:
        self.tree.reached[number, device].append(self)
        self.feed(events.UpdateArrived(device=device, round=number, now_s=self.tree.now_s))

    def on_failed(self, link: Link, device: str, number: int) -> None:
        self.feed(events.UpdateRefused(device=device, round=number, now_s=self.tree.now_s))

    def on_part(
        self, link: Link, part: PartialId, number: int, counted: tuple[str, ...], failed: tuple[str, ...], total: int
    ) -> None:
        if self.tree.root_remembers and part in self.merged:
            self.answer(part.child, part.number, Decision.ACCEPTED)
            return
        before = set(self.merged)
        times = tuple((device, 1.0) for device in counted)
        self.feed(
            events.PartialArrived(
                edge=part.child, number=part.number, round=number, device_times=times, now_s=self.tree.now_s
            )
        )
        if self.merged - before:
            self.total += total
            for device in failed:
                self.feed(events.UpdateRefused(device=device, round=number, now_s=self.tree.now_s))

    def open_round(self) -> None:
        """Open the next round with most of the devices that are here."""
        assert self.turn is not None and self.turn.next_round is not None
        number, self.turn = self.turn.next_round, None
        roster = sorted({*self.state.roster})
        cohort = self.tree.dice.sample(roster, self.tree.dice.randint((len(roster) + 1) // 2, len(roster)))
        self.feed(events.Planned(round=number, cohort=tuple(cohort), now_s=self.tree.now_s))

    def close_round(self) -> None:
        """Tell every party that the round is durable."""
        assert self.turn is not None and self.turn.closed is not None
        closed, self.total, total = self.turn.closed, 0, self.total
        self.tree.check_closed(closed, total)
        self.tell_closed(closed.round)

    def alive(self) -> None:
        for device in list(self.sessions):
            self.feed(events.Alive(device=device, epoch=self.numbers[device], now_s=self.tree.now_s))
        self.feed(events.Tick(now_s=self.tree.now_s))


class Edge(Parent):
    def __init__(self, tree: "Tree", name: str, level: int, number: int) -> None:
        super().__init__(tree)
        self.name, self.level, self.alive, self.epoch = name, level, True, 0
        self.link: Link | None = None
        self.state = TierState(number=number)
        self.updates: dict[tuple[int, str], int] = {}
        self.parts: dict[PartialId, tuple[int, int]] = {}  # round, sum
        self.total = 0
        self.sent: dict[int, Message] = {}

    def connect(self, parent: "Edge | Root", *, leaves_first: bool) -> None:
        self.link, self.epoch = self.tree.link(self, parent), self.epoch + 1
        self.link.up("edge", self.name)
        if not leaves_first:
            self.feed(up.UplinkRestored(now_s=self.tree.now_s))
        for device, session in self.sessions.items():
            self.link.up("join", device, (*session.path, self.epoch))
        if leaves_first:
            self.feed(up.UplinkRestored(now_s=self.tree.now_s))

    def tell(self, *message: Any) -> None:
        if self.link is not None:
            self.link.up(*message)

    def feed(self, event: up.Event) -> None:
        self.state, orders = tier_step(self.state, event)
        pushes = [order for order in orders if isinstance(order, down.Push)]
        for order in orders:
            self.obey(order)
        if pushes:
            named = [order.device for order in pushes]
            for device in self.hand_out(pushes[0].round, named, self.state.deadline_at_s - 1.0):
                self.feed(up.DeviceLeft(device=device, now_s=self.tree.now_s))

    def obey(self, order: down.Command) -> None:
        match order:
            case down.Fold():
                self.total += self.updates[order.round, order.device]
            case down.MergePartial():
                self.total += self.parts[order.part][1]
            case down.Acknowledge():
                self.tree.check_decision(order.round, order.decision, (order.device,))
                if order.device in self.sessions and isinstance(self.sessions[order.device].link.child, Device):
                    self.sessions[order.device].link.down("verdict", order.round, order.decision)
            case down.AnswerChild():
                self.tree.check_decision(order.round, order.decision, order.devices)
                self.parts.pop(order.part, None)
                if order.part.child in self.edges:
                    self.edges[order.part.child].down("answer", order.part.number, order.decision, order.devices)
            case down.Send():
                self.send(order)
            case down.SendAgain():
                self.tell(*self.sent[order.number])
            case down.Forget():
                self.updates = {key: value for key, value in self.updates.items() if key[0] > order.round}
                self.parts = {part: value for part, value in self.parts.items() if value[0] > order.round}
                self.total, self.sent = 0, {}

    def send(self, order: down.Send) -> None:
        assert self.total == sum(self.tree.devices[device].value for device in order.devices)
        assert not set(order.devices) & set(order.failed)
        part = PartialId(child=self.name, number=order.number)
        self.sent[order.number] = ("part", part, order.round, order.devices, order.failed, self.total)
        self.total = 0
        self.tell(*self.sent[order.number])

    def on_session(self, device: str, path: Path) -> None:
        self.tell("join", device, (*path, self.epoch))

    def replaced(self, device: str) -> None:
        self.feed(up.DeviceLeft(device=device, now_s=self.tree.now_s))

    def unseated(self, device: str, path: Path, lost: bool) -> None:
        self.feed(up.DeviceLeft(device=device, now_s=self.tree.now_s))
        self.tell("left", device, (*path, self.epoch), lost and not self.state.holds(device))

    def on_update(self, link: Link, device: str, number: int, value: int) -> None:
        self.updates[number, device] = value
        self.feed(up.UpdateArrived(device=device, round=number, now_s=self.tree.now_s))
        relayed = self.state.devices.get(device)
        if number == self.state.round and self.state.holds(device) and relayed is not None and relayed.part is None:
            self.tree.reached[number, device].append(self)

    def on_failed(self, link: Link, device: str, number: int) -> None:
        self.feed(up.AssignmentFailed(device=device, round=number, now_s=self.tree.now_s))

    def on_part(
        self, link: Link, part: PartialId, number: int, counted: tuple[str, ...], failed: tuple[str, ...], total: int
    ) -> None:
        self.parts[part] = (number, total)
        if number > self.state.round:
            self.tree.unheard.update(counted)
        self.feed(
            up.PartialArrived(
                child=part.child,
                number=part.number,
                round=number,
                counted=counted,
                failed=failed,
                now_s=self.tree.now_s,
            )
        )

    def receive(self, kind: str, *rest: Any) -> None:
        now_s = self.tree.now_s
        if kind == "share":
            number, devices, deadline_at_s = rest
            self.feed(up.ShareArrived(round=number, devices=devices, deadline_at_s=deadline_at_s, now_s=now_s))
        elif kind == "answer":
            number, decision, devices = rest
            self.feed(up.SubmissionAnswered(number=number, decision=decision, devices=devices, now_s=now_s))
        elif kind == "closed":
            self.feed(up.RoundClosed(round=rest[0], now_s=now_s))
            self.tell_closed(rest[0])
