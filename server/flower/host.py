"""A coordinator that serves a Flower app: sessions, leases and blobs as everywhere, its messages in the middle.

It plans nothing and folds nothing: the ServerApp does, in a thread of its own, through `fedcore.server.flower.grid`.
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence

from fedcore.core.contract.profile import check_name
from fedcore.core.contract.protocols import Json
from fedcore.core.errors import FedcoreError, JoinRefused, TransportError
from fedcore.protos.tier_values import AnyUpward
from fedcore.protos.values import (
    AppReply,
    AppTask,
    Goodbye,
    Join,
    Newcomer,
    Role,
    RunDescription,
    UpdateVerdict,
    Welcome,
)
from fedcore.server.flower.app_queue import AppQueue, Failure, InFlight, Instruction
from fedcore.server.members.admission import check_identity, check_protocol
from fedcore.server.members.revocation_guard import RevocationGuard
from fedcore.server.members.revocation_watch import RevocationWatch
from fedcore.server.members.session_registry import SessionRegistry
from fedcore.server.members.sessions import Session
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.pki.certificates import Identity

LOOKS_PER_LEASE = 4  # for devices that went silent and tasks that are overdue
LONGEST_LOOK_S = 1.0
AHEAD = 8  # messages a device may have before it has answered the first; it works on one after the other


class AppHost:
    """The parent of every stream. `tell` writes one event."""

    def __init__(
        self,
        *,
        description: RunDescription,
        blobs: BlobStore,
        run_config: str,
        lease_s: float,
        tell: Callable[[str, Json], None],
        revocations: RevocationWatch | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Wait for devices; nothing runs by itself before `watch`."""
        self.desk = AppQueue(blobs=blobs, run_config=run_config, clock=clock, on_end=self._ended)
        self.lease_s = lease_s
        self._description = description
        self._tell = tell
        self._clock = clock
        self._seats = SessionRegistry()
        self._seen_s: dict[str, float] = {}  # by device, connected or within its lease
        self._names: dict[int, str] = {}  # by node
        self._sent: dict[str, int] = {}  # by session, the last task that went down it
        self._stopped = ""
        self._guard = RevocationGuard(
            revocations or RevocationWatch(),
            sessions=self._streams,
            expel=self._expel,
            changed=self._tell_revocations,
            refused=lambda message: self._tell("revocations_refused", {"message": message}),
        )

    # --- the app's side ---

    def nodes(self) -> list[int]:
        """Nodes with an open stream, sorted; raises TransportError once this coordinator stops."""
        self._check_open()
        return sorted(node for node, name in self._names.items() if self._seats.find(name) is not None)

    def device(self, node: int) -> str | None:
        """The device behind a node, also one whose stream broke within its lease."""
        name = self._names.get(node)
        return name if name in self._seen_s else None

    def push(self, instructions: Sequence[Instruction]) -> None:
        """Send messages down; those for devices that come back within their lease wait for them."""
        self._check_open()
        for instruction in instructions:
            task = self.desk.put(instruction)
            self._tell("task", {"device": instruction.device, "number": task.number, "bytes": task.content.size})
            session = self._seats.find(instruction.device)
            if isinstance(session, Session):
                self._feed(session)
            elif instruction.device not in self._seen_s:
                self.desk.fail([instruction.device], "the device has left")

    async def ended(self, message_ids: Sequence[str], wait_s: float) -> list[InFlight]:
        """Return those of the messages that are over, waiting up to `wait_s` until one is."""
        until_s = self._clock() + wait_s
        while True:
            self._check_open()
            self.desk.changed.clear()
            over = self.desk.collect(message_ids)
            left_s = until_s - self._clock()
            if over or left_s <= 0:
                return over
            try:
                async with asyncio.timeout(left_s):
                    await self.desk.changed.wait()
            except TimeoutError:
                continue  # one last look

    async def watch(self) -> None:
        """Notice silent devices and overdue tasks, for ever."""
        while True:
            await asyncio.sleep(min(self.lease_s / LOOKS_PER_LEASE, LONGEST_LOOK_S))
            now_s = self._clock()
            for name in [name for name, seen_s in self._seen_s.items() if now_s >= seen_s + self.lease_s]:
                self._lose(name, f"the device gave no sign of life for {self.lease_s:g} s")
            self._guard.look()
            self.desk.expire()

    def stop(self, reason: str) -> None:
        """Send everybody home; the app's next call fails with the reason."""
        self._stopped = reason
        for session in self._seats:
            session.send(Goodbye(reason=reason))
            session.close()
        self._seats.clear()
        self.desk.changed.set()

    # --- the service's side ---

    def vouch(self, identity: Identity | None) -> None:
        """Raise CertificateError where this certificate has been revoked; None came without TLS."""
        self._guard.vouch(identity)

    async def describe(self, newcomer: Newcomer, identity: Identity | None) -> RunDescription:
        """There is no base model and no label list here."""
        return self._description

    async def join(self, join: Join, identity: Identity | None) -> Session:
        """Seat a device and send it what it has yet to answer; raises what it must change."""
        self._check_open()
        check_name(join.name)
        try:
            check_protocol(join)
            check_identity(join, identity)
            self.vouch(identity)
            if join.role is not Role.DEVICE or join.fingerprint != self._description.fingerprint:
                raise JoinRefused("this coordinator serves a Flower app; join it with: fedcore flower join")
            session = Session(join, identity=identity)
            number = self._seats.next_number(join)
        except FedcoreError as error:
            self._tell("refused", {"device": join.name, "message": str(error)})
            raise
        session.send(
            Welcome(session=session.token, labels=(), lease_s=self.lease_s, keep_set="", targets=(), answers_beats=True)
        )
        self._seats.take(session, number)
        self._names[node_id(join.device_uuid)] = join.name
        self._seen_s[join.name] = self._clock()
        self._tell("joined", {"device": join.name, "node": str(node_id(join.device_uuid)), "epoch": join.epoch})
        self._feed(session)
        return session

    def leave(self, session: Session) -> None:
        """The stream of `session` has closed; the device keeps its lease."""
        self._sent.pop(session.token, None)
        if self._seats.leave(session):
            self._tell("left", {"device": session.name})

    def receive(self, session: Session, message: AnyUpward) -> None:
        """Take one message of a stream."""
        if not self._seats.holds(session):
            return
        self.sign_of_life(session)
        if isinstance(message, AppReply):
            answer = self.desk.reply(session.name, message)
            session.send(answer if isinstance(answer, AppTask) else UpdateVerdict(round=message.number, verdict=answer))

    def sign_of_life(self, session: Session) -> None:
        """Renew the lease of a session."""
        if self._seats.holds(session):
            self._seen_s[session.name] = self._clock()

    def session_of(self, name: str, token: str) -> Session | None:
        """The live session that holds `token`."""
        session = self._seats.find(name)
        return session if isinstance(session, Session) and session.token == token else None

    def upload_limit(self, session: Session, round_index: int) -> int | None:
        """Most bytes of the reply to a task; None where it is not this device's to answer."""
        return self.desk.limit(session.name, round_index)

    def uploading(self, session: Session, blob_id: str, *, new: bool) -> None:
        """Note an upload, so that it goes with its task."""
        if new:
            for task in self.desk.open_of(session.name)[:1]:  # a device answers in order
                self.desk.uploads.setdefault(task.number, set()).add(blob_id)

    def refused(self, session: Session, round_index: int, error: FedcoreError) -> None:
        """Report an upload that was refused."""
        self._tell("rejected", {"device": session.name, "number": round_index, "message": str(error)})

    async def bring(self, blob_id: str) -> None:
        """Everything that is handed out is here."""

    def _feed(self, session: Session) -> None:
        """Send a device the next of its tasks; what it has to answer first goes first."""
        for task in self.desk.open_of(session.name)[:AHEAD]:
            if task.number > self._sent.get(session.token, 0):
                self._sent[session.token] = task.number
                session.send(task)

    # --- ends ---

    def _streams(self) -> Iterator[Session]:
        return (each for each in self._seats if isinstance(each, Session))

    def _expel(self, session: Session) -> None:
        serial = "" if session.identity is None else f"{session.identity.serial:x}"
        self._tell("revoked", {"device": session.name, "role": str(session.join.role), "serial": serial})
        self._lose(session.name, "the device's certificate is revoked")

    def _tell_revocations(self) -> None:
        current = self._guard.watch.current
        self._tell("revocations", {"number": current.number, "certificates": len(current.revoked)})

    def _lose(self, name: str, reason: str) -> None:
        del self._seen_s[name]
        session = self._seats.find(name)
        if session is not None:
            self._seats.leave(session)
            session.close()
        self._tell("lost", {"device": name})
        self.desk.fail([name], reason)

    def _ended(self, flight: InFlight) -> None:
        session = self._seats.find(flight.instruction.device)
        if isinstance(session, Session):
            self._feed(session)
        end, facts = flight.end, {"device": flight.instruction.device, "number": flight.task.number}
        facts["time_s"] = self._clock() - flight.begun_s
        if isinstance(end, Failure):
            self._tell("task_failed", {**facts, "message": end.reason})
        elif end is not None:
            self._tell("reply", {**facts, "bytes": 0 if end.content is None else end.content.size})

    def _check_open(self) -> None:
        if self._stopped:
            raise TransportError(f"the coordinator has stopped: {self._stopped}")


def node_id(device_uuid: str) -> int:
    """Return the node a device is: the same after every reconnect and restart, never one of Flower's own small ids."""
    return (int.from_bytes(hashlib.sha256(device_uuid.encode()).digest()[:8], "big") >> 1) | (1 << 32)
