"""A coordinator that serves a Flower app: sessions, leases and blobs as everywhere, its messages in the middle.

It plans nothing and folds nothing: the ServerApp does, in a thread of its own, through `fedcore.server.flower.grid`.
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

LOOKS_PER_LEASE = 4  # for devices that went silent and tasks that are overdue
LONGEST_LOOK_S = 1.0
AHEAD = 8  # messages a device may have before it has answered the first; it works on one after the other


class AppHost:
    """The parent of every stream. `report` writes one event."""

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
        """Wait for devices; nothing runs by itself before `watch`."""
        self.queue = AppQueue(blobs=blobs, run_config=run_config, clock=clock, on_end=self._ended)
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
        """Nodes with an open stream, sorted; raises TransportError once this coordinator stops."""
        self.membership.check_open()
        return sorted(node for node, name in self._names.items() if self.membership.sessions.find(name) is not None)

    def device(self, node: int) -> str | None:
        """The device behind a node, also one whose stream broke within its lease."""
        name = self._names.get(node)
        return name if name is not None and name in self._leases else None

    def push(self, instructions: Sequence[Instruction]) -> None:
        """Send messages down; those for devices that come back within their lease wait for them."""
        self.membership.check_open()
        for instruction in instructions:
            task = self.queue.put(instruction)
            self._report("task", {"device": instruction.device, "number": task.number, "bytes": task.content.size})
            session = self.membership.sessions.find(instruction.device)
            if isinstance(session, Session):
                self._feed(session)
            elif instruction.device not in self._leases:
                self.queue.fail([instruction.device], "the device has left")

    async def ended(self, message_ids: Sequence[str], wait_s: float) -> list[InFlight]:
        """Return those of the messages that are over, waiting up to `wait_s` until one is."""
        until_s = self._clock() + wait_s
        while True:
            self.membership.check_open()
            self.queue.changed.clear()
            over = self.queue.collect(message_ids)
            left_s = until_s - self._clock()
            if over or left_s <= 0:
                return over
            try:
                async with asyncio.timeout(left_s):
                    await self.queue.changed.wait()
            except TimeoutError:
                continue  # one last look

    async def watch(self) -> None:
        """Notice silent devices and overdue tasks, for ever."""
        while True:
            await asyncio.sleep(min(self.lease_s / LOOKS_PER_LEASE, LONGEST_LOOK_S))
            for name in self._leases.expired(self._clock(), self.lease_s):
                self._expire(name)
            self.membership.guard.look()
            self.queue.expire()

    def stop(self, reason: str) -> None:
        """Send every device home; the app's next call fails with the reason."""
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
        """There is no base model and no label list here."""
        return self._description, {}

    async def _admit(self, join: Join) -> Welcome:
        if join.role is not Role.DEVICE or join.fingerprint != self._description.fingerprint:
            raise JoinRefused("this coordinator serves a Flower app; join it with: fedcore flower join")
        return Welcome(session="", labels=(), lease_s=self.lease_s, keep_set="", targets=(), answers_beats=True)

    def _arrived(self, session: AnySession) -> None:
        """Note a device, and send it what it has yet to answer."""
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
        """Most bytes of the reply to a task; None where it is not this device's to answer."""
        return self.queue.limit(session.name, round_index)

    def upload_started(self, session: Session, blob_id: str, *, new: bool) -> None:
        """Note an upload, so that it goes with its task."""
        if new:
            for task in self.queue.open_of(session.name)[:1]:  # a device answers in order
                self.queue.uploads.setdefault(task.number, set()).add(blob_id)

    def upload_refused(self, session: Session, round_index: int, error: FedcoreError) -> None:
        """Report an upload that was refused."""
        self._report("rejected", {"device": session.name, "number": round_index, "message": str(error)})

    async def ensure_blob(self, blob_id: str) -> None:
        """Return at once: every blob that is handed out is here."""

    def _feed(self, session: Session) -> None:
        """Send a device the next of its tasks; what it has to answer first goes first."""
        for task in self.queue.open_of(session.name)[:AHEAD]:
            if task.number > self._sent.get(session.token, 0):
                self._sent[session.token] = task.number
                session.send(task)

    def _ended(self, flight: InFlight) -> None:
        session = self.membership.sessions.find(flight.instruction.device)
        if isinstance(session, Session):
            self._feed(session)
        end, facts = flight.end, {"device": flight.instruction.device, "number": flight.task.number}
        facts["time_s"] = self._clock() - flight.begun_s
        if isinstance(end, Failure):
            self._report("task_failed", {**facts, "message": end.reason})
        elif end is not None:
            self._report("reply", {**facts, "bytes": 0 if end.content is None else end.content.size})


def node_id(device_uuid: str) -> int:
    """Return the node a device is: the same after every reconnect and restart, never one of Flower's own small ids."""
    return (int.from_bytes(hashlib.sha256(device_uuid.encode()).digest()[:8], "big") >> 1) | (1 << 32)
