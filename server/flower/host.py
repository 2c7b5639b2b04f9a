"""A coordinator that serves a Flower app: the usual sessions, leases and blobs, with the app's messages.

It neither plans nor folds. The ServerApp does, in a thread of its own, through `fedcore.server.flower.grid`.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Mapping, Sequence

from fedcore.core.contract.protocols import Json
from fedcore.core.errors import FedcoreError, JoinRefused
from fedcore.protos.tier_values import AnyUpward
from fedcore.protos.values import AppReply, AppTask, Join, Newcomer, Role, RunDescription, UpdateVerdict, Welcome
from fedcore.server.flower.app_queue import AppQueue, Failure, InFlight, Instruction
from fedcore.server.members.hooks import Cause, Departure, MembershipHooks
from fedcore.server.members.leases import Leases
from fedcore.server.members.membership import Membership
from fedcore.server.members.revocation_watch import RevocationWatch
from fedcore.server.members.sessions import AnySession, Session
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.pki.revocation import RevocationList

LOOKS_PER_LEASE = 4  # for silent devices and overdue tasks
LONGEST_LOOK_S = 1.0  # between two looks
AHEAD = 8  # tasks that a device may have before it answers the first; it works on one after the other


class AppHost:
    """The parent of all devices of an app. `report` writes one event."""

    def __init__(
        self,
        *,
        description: RunDescription,
        blobs: BlobStore,
        run_config: str,
        lease_s: float,
        report: Callable[[str, Json], None],
        revocations: RevocationWatch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wire up; nothing checks leases or deadlines before `watch`."""
        self.queue = AppQueue(blobs=blobs, run_config=run_config, clock=clock, on_end=self._task_ended)
        self.lease_s = lease_s
        self.membership = Membership(self._hooks(), revocations)
        self._description = description
        self._report = report
        self._clock = clock
        self._leases: Leases[str] = Leases()  # of devices by name; a lease outlives its stream
        self._names: dict[int, str] = {}  # of devices, by node
        self._sent: dict[str, int] = {}  # by session token, the number of the last task that was sent

    # --- the app's side ---

    def nodes(self) -> list[int]:
        """Return the nodes with an open stream, sorted; raises TransportError once this coordinator stops."""
        self.membership.check_open()
        return sorted(node for node, name in self._names.items() if self.membership.sessions.find(name) is not None)

    def device(self, node: int) -> str | None:
        """Return the device of a node while its lease runs, with or without a stream."""
        name = self._names.get(node)
        return name if name is not None and name in self._leases else None

    def push(self, instructions: Sequence[Instruction]) -> None:
        """Send messages; a message for a device without a stream waits for it within its lease."""
        self.membership.check_open()
        for instruction in instructions:
            task = self.queue.put(instruction)
            self._report("task", {"device": instruction.device, "number": task.number, "bytes": task.content.size})
            session = self.membership.sessions.find(instruction.device)
            if isinstance(session, Session):
                self._feed(session)
            elif instruction.device not in self._leases:
                self.queue.fail([instruction.device], "the device has left")

    async def collect(self, message_ids: Sequence[str], wait_s: float) -> list[InFlight]:
        """Return the tasks of these messages that are over, after a wait of up to `wait_s` seconds for the first."""
        until_s = self._clock() + wait_s
        while True:
            self.membership.check_open()
            self.queue.changed.clear()
            over = self.queue.collect(message_ids)
            left_s = until_s - self._clock()
            if over or left_s <= 0:
                return over
            try:
                await asyncio.wait_for(self.queue.changed.wait(), left_s)
            except asyncio.TimeoutError:
                continue  # one last look

    async def watch(self) -> None:
        """Expire silent devices and overdue tasks, for ever."""
        while True:
            await asyncio.sleep(min(self.lease_s / LOOKS_PER_LEASE, LONGEST_LOOK_S))
            for name in self._leases.expired(self._clock(), self.lease_s):
                self._expire(name)
            self.membership.guard.look()
            self.queue.expire()

    def stop(self, reason: str) -> None:
        """Send all devices home; the app's next call fails with the reason."""
        self.membership.close(reason, refusal=f"the coordinator has stopped: {reason}")
        self.queue.changed.set()

    # --- members ---

    def _hooks(self) -> MembershipHooks:
        return MembershipHooks(
            describe=self._describe,
            admit=self._admit,
            arrived=self._arrived,
            departed=self._departed,
            alive=lambda session: self._leases.renew(session.name, self._clock()),
            message=self._receive,
            evicted=self._evicted,
            revocations_refused=lambda message: self._report("revocations_refused", {"message": message}),
            revocations_changed=self._revocations_changed,
            refused=lambda name, error: self._report("refused", {"device": name, "message": str(error)}),
        )

    async def _describe(self, newcomer: Newcomer) -> tuple[RunDescription, Mapping[str, int]]:
        """Return the description: an app has no base model and no label list here."""
        return self._description, {}

    async def _admit(self, join: Join) -> Welcome:
        if join.role is not Role.DEVICE or join.fingerprint != self._description.fingerprint:
            raise JoinRefused("this coordinator serves a Flower app; join it with: fedcore flower join")
        return Welcome(session="", labels=(), lease_s=self.lease_s, keep_set="", targets=(), answers_beats=True)

    def _arrived(self, session: AnySession) -> None:
        """Note a device, and send it its open tasks."""
        join, node = session.join, node_id(session.join.device_uuid)
        self._names[node] = join.name
        self._leases.renew(join.name, self._clock())
        self._report("joined", {"device": join.name, "node": str(node), "epoch": join.epoch})
        self._feed(session.stream)

    def _departed(self, session: AnySession, departure: Departure) -> None:
        """Note a departure; a device whose stream closed keeps its lease."""
        self._sent.pop(session.token, None)
        if departure.cause is Cause.REVOKED:
            self._lose(session.name, "the device's certificate is revoked")
        elif departure.lost:
            self._lose(session.name, self._silence)
        elif departure.cause is Cause.LEFT:
            self._report("left", {"device": session.name})

    def _expire(self, name: str) -> None:
        session = self.membership.sessions.find(name)
        if session is None:  # its stream has closed before
            self._lose(name, self._silence)
        else:
            self.membership.expire(session.stream)

    @property
    def _silence(self) -> str:
        return f"the device gave no sign of life for {self.lease_s:g} s"

    def _lose(self, name: str, reason: str) -> None:
        self._leases.end(name)
        self._report("lost", {"device": name})
        self.queue.fail([name], reason)

    def _receive(self, session: Session, message: AnyUpward) -> None:
        if isinstance(message, AppReply):
            answer = self.queue.reply(session.name, message)
            session.send(answer if isinstance(answer, AppTask) else UpdateVerdict(round=message.number, verdict=answer))

    def _evicted(self, session: AnySession) -> None:
        facts = {"device": session.name, "role": str(session.join.role), "serial": session.stream.serial}
        self._report("revoked", facts)

    def _revocations_changed(self, current: RevocationList) -> None:
        self._report("revocations", {"number": current.number, "certificates": len(current.revoked)})

    # --- uploads ---

    def upload_limit(self, session: Session, round_index: int) -> int | None:
        """Return the most bytes of the reply to a task; None if the device has no such open task."""
        return self.queue.limit(session.name, round_index)

    def upload_started(self, session: Session, blob_id: str, *, new: bool) -> None:
        """Note an upload, to delete it with its task."""
        if new:
            for task in self.queue.open_of(session.name)[:1]:  # a device answers in order
                self.queue.uploads.setdefault(task.number, set()).add(blob_id)

    def upload_refused(self, session: Session, round_index: int, error: FedcoreError) -> None:
        """Report an upload that was refused."""
        self._report("rejected", {"device": session.name, "number": round_index, "message": str(error)})

    async def ensure_blob(self, blob_id: str) -> None:
        """Return at once: every blob that a device may fetch is here."""

    def _feed(self, session: Session) -> None:
        """Send a device its next tasks, oldest first."""
        for task in self.queue.open_of(session.name)[:AHEAD]:
            if task.number > self._sent.get(session.token, 0):
                self._sent[session.token] = task.number
                session.send(task)

    def _task_ended(self, in_flight: InFlight) -> None:
        session = self.membership.sessions.find(in_flight.instruction.device)
        if isinstance(session, Session):
            self._feed(session)
        end, facts = in_flight.end, {"device": in_flight.instruction.device, "number": in_flight.task.number}
        facts["time_s"] = self._clock() - in_flight.begun_s
        if isinstance(end, Failure):
            self._report("task_failed", {**facts, "message": end.reason})
        elif end is not None:
            self._report("reply", {**facts, "bytes": 0 if end.content is None else end.content.size})


def node_id(device_uuid: str) -> int:
    """Return the node id of a device: the same after reconnects and restarts, never one of Flower's own small ids."""
    return (int.from_bytes(hashlib.sha256(device_uuid.encode()).digest()[:8], "big") >> 1) | (1 << 32)
