"""Rounds in virtual time: the round machine decides, the engine computes, and nothing ever waits.

The driver is a discrete-event simulation. A heap holds future actions by virtual time; the loop pops the earliest one,
sets the clock to its time and runs it. Actions feed events to `fedcore.core.rounds.machine`, as the coordinator's event
loop does for real devices, and carry out the machine's commands. The machine's alarm is one more future action; at
equal times it comes last.
"""

import dataclasses
import functools
import heapq
import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import InitVar, dataclass, field

from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import Json
from fedcore.core.errors import RunError
from fedcore.core.rounds import commands, events
from fedcore.core.rounds.machine import step
from fedcore.core.rounds.shell import RoundShell, in_order, nothing, together
from fedcore.core.rounds.state import RoundState
from fedcore.server.aggregate.engine import Engine
from fedcore.server.run.run_log import RunLog
from fedcore.simulation.fleet.fleet import VirtualFleet
from fedcore.simulation.fleet.presence import Presence
from fedcore.simulation.rounds.clock import VirtualClock
from fedcore.simulation.rounds.dispatch import DispatchPlanner, Ended, Ending, Pushed

FOREVER_S = 1e15  # the machine's lease: virtual devices send no heartbeat, the driver reports their absence


@dataclass(slots=True, kw_only=True, eq=False)
class Driver:
    """One simulated run. The policy of `state` has the lease FOREVER_S; devices are lost after `lease_s`."""

    state: InitVar[RoundState]
    engine: Engine
    fleet: VirtualFleet
    planner: DispatchPlanner
    log: RunLog
    clock: VirtualClock
    lease_s: float
    on_closed: Callable[[], None]
    profiles: dict[str, DeviceProfile] = field(default_factory=dict)
    _presence: dict[str, Presence] = field(default_factory=dict)
    _queue: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: "itertools.count[int]" = field(default_factory=itertools.count)
    _alarm_at_s: float = math.inf
    _attempts: dict[str, int] = field(default_factory=dict)  # device -> attempts at the open round's assignment, from 0
    _over: bool = False
    _shell: RoundShell[RoundState, events.Event, commands.Command] = field(init=False)

    def __post_init__(self, state: RoundState) -> None:
        """Map every command to its action; commands for streams, edges and waiting devices have none."""
        self._shell = RoundShell(
            state,
            step,
            commands=commands.Command,
            table=(
                in_order(commands.Turn, self._turn),
                together(commands.Push, self._push),
                in_order(commands.Accept, self._accept),
                in_order(commands.WakeAt, self._wake_at),
                in_order(commands.Pause, _pause),
                in_order(commands.Finish, self._finish),
                # a virtual device waits for no answer
                nothing(commands.AckDuplicate),
                nothing(commands.RefuseLate),
                nothing(commands.RefuseUnknown),
                # no edges
                nothing(commands.AcceptPartial),
                nothing(commands.RefuseOverlap),
                nothing(commands.RefusePartial),
                # no streams
                nothing(commands.Fence),
            ),
        )

    @property
    def machine(self) -> RoundState:
        """The state of the round machine."""
        return self._shell.state

    def run(self) -> None:
        """Drive the run to its end, once. Raises RunError where it pauses, or where no event is left."""
        try:
            self._connect(self.fleet.devices)
            self._feed(events.Started(now_s=self.clock()))  # last: the first round may draw from all devices online now
            while not self._over:
                self._next()
        finally:  # the rest of the future is methods of this driver, as the shell's actions are
            self._queue.clear()
            self._shell.end()

    def _connect(self, names: Iterable[str]) -> None:
        """Join the devices that are online at the beginning, and schedule the joins of all others."""
        now_s, joined = self.clock(), []
        for name in names:
            presence = self._presence[name] = Presence(spans=self.fleet.spans(name))
            if not presence.next_span(now_s):
                continue
            if presence.from_s <= now_s:
                joined.append(name)
            else:
                self._at(presence.from_s, functools.partial(self._online, name))
        self._join(joined)

    # --- time ---

    def _at(self, at_s: float, action: Callable[[], None]) -> None:
        if at_s < math.inf:
            heapq.heappush(self._queue, (at_s, next(self._numbers), action))

    def _next(self) -> None:
        """Run the earliest action or the machine's alarm; at equal times the action comes first."""
        if self._queue and self._queue[0][0] <= self._alarm_at_s:
            at_s, _, action = heapq.heappop(self._queue)
            self.clock.advance(at_s)
            action()
        elif self._alarm_at_s < FOREVER_S / 2:
            at_s, self._alarm_at_s = self._alarm_at_s, math.inf
            self.clock.advance(at_s)
            self._feed(events.Tick(now_s=self.clock()))
        else:
            raise RunError(
                f"round {self.machine.round}: nothing can happen any more, for no device comes online again; give the "
                "devices more time in their availability or the trace"
            )

    # --- presence ---

    def _join(self, names: Iterable[str]) -> None:
        arriving = [(name, self._presence[name].arrive()) for name in names]
        self.log.events("joined", [_joined(self.fleet.devices[name].profile, epoch) for name, epoch in arriving])
        for name, epoch in arriving:
            self.profiles[name] = self.fleet.devices[name].profile
            self._at(self._presence[name].until_s, functools.partial(self._offline, name, epoch))
        for name, epoch in arriving:
            self._feed(events.Joined(device=name, epoch=epoch, now_s=self.clock()))

    def _online(self, name: str) -> None:
        presence = self._presence[name]
        if presence.here or not presence.next_span(self.clock()):
            return
        begins_s = max(presence.from_s, presence.back_at_s)
        if begins_s > self.clock():
            self._at(begins_s, functools.partial(self._online, name))
        else:
            self._join([name])

    def _offline(self, name: str, epoch: int) -> None:
        if self._presence[name].epoch == epoch and self._presence[name].here:
            self._leave(name)
            self._online(name)

    def _vanish(self, name: str, epoch: int) -> None:
        presence = self._presence[name]
        if presence.epoch == epoch and presence.here:
            presence.back_at_s = self.clock() + self.lease_s
            self._leave(name)
            self._online(name)

    def _leave(self, name: str) -> None:
        presence = self._presence[name]
        presence.here = False
        self.log.event("left", device=name, role="device")
        self._feed(events.Left(device=name, epoch=presence.epoch, now_s=self.clock()))
        self._at(self.clock() + self.lease_s, functools.partial(self._lose, name, presence.epoch))

    def _lose(self, name: str, epoch: int) -> None:
        self._feed(events.Left(device=name, epoch=epoch, now_s=self.clock(), lost=True))

    # --- rounds ---

    def _feed(self, event: events.Event) -> None:
        self._shell.feed(event)

    def _accept(self, order: commands.Accept) -> None:
        self.log.event("accepted", device=order.device, round=order.round)  # the update was folded at dispatch

    def _wake_at(self, order: commands.WakeAt) -> None:
        self._alarm_at_s = order.at_s

    def _finish(self, _: commands.Finish) -> None:
        self._over = True

    def _turn(self, order: commands.Turn) -> None:
        turned = self.engine.turn(order, self.profiles, self.machine.void_streak)
        self._attempts.clear()
        if order.closed is not None:
            self.planner.workload.settle(order.closed)
            if not order.closed.void:
                self.on_closed()
        now_s = self.clock()
        if order.next_round is None:
            self._feed(events.TurnDone(now_s=now_s))
        else:
            self._feed(events.Planned(round=order.next_round, cohort=tuple(sorted(turned.assignments)), now_s=now_s))

    def _push(self, pushes: Sequence[commands.Push]) -> None:
        number, now_s = self.machine.round, self.clock()
        assignments = []
        for name in (order.device for order in pushes):
            attempt = self._attempts[name] = self._attempts.get(name, -1) + 1
            until_s = min(self.machine.deadline_at_s, self._presence[name].until_s)
            assignments.append(Pushed(device=name, attempt=attempt, now_s=now_s, until_s=until_s))
        self.log.events("pushed", [{"device": push.device, "round": number} for push in assignments])
        for ended in self.planner.carry_out(assignments):
            self._at(ended.at_s, functools.partial(self._end, ended, number, self._presence[ended.device].epoch))

    def _end(self, ended: Ended, number: int, epoch: int) -> None:
        name, now_s = ended.device, self.clock()
        match ended.ending:
            case Ending.ARRIVED:
                self._feed(events.UpdateArrived(device=name, round=number, now_s=now_s))
            case Ending.VANISHED if number == self.machine.round:
                self._vanish(name, epoch)
            case Ending.FAILED if self._presence[name].epoch == epoch and self._presence[name].here:
                why = {"out_of_memory": True} if ended.out_of_memory else {}
                self.log.event("failed", device=name, round=number, message=ended.message, **why)
                self._feed(
                    events.UpdateRefused(device=name, round=number, now_s=now_s, out_of_memory=ended.out_of_memory)
                )
            case _:
                pass  # the device had gone by then, or the round had closed


def _pause(order: commands.Pause) -> None:
    raise RunError(order.reason)


def _joined(profile: DeviceProfile, epoch: int) -> Json:
    """Return the fields of the event that a real device's join writes."""
    fields = dataclasses.asdict(profile)
    return {"device": fields.pop("name"), "role": "device", "epoch": epoch, **fields}
