"""A parent that notes what its membership tells it, answers joins only when it is told to, and needs no event loop."""

import datetime
from collections.abc import Coroutine, Generator
from dataclasses import dataclass, field
from dataclasses import replace as changed
from typing import Any

from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.errors import FedcoreError
from fedcore.protos.tier_values import AnyUpward, LeafJoin
from fedcore.protos.values import Join, Newcomer, Role, RunDescription, Welcome
from fedcore.protos.wire import PROTOCOL
from fedcore.server.members.hooks import Cause, Departure, MembershipHooks
from fedcore.server.members.membership import Membership
from fedcore.server.members.revocation_watch import RevocationWatch
from fedcore.server.members.sessions import AnySession, RelayedSession, Session
from fedcore.storage.pki.certificates import Identity
from fedcore.storage.pki.revocation import RevocationList
from tests.server.members.test_admission import JOIN, MARK

WELCOME = Welcome(session="", labels=("no", "yes"), lease_s=3.0, keep_set="", targets=("q",))
DESCRIPTION = RunDescription(
    protocol_min=PROTOCOL,
    protocol_max=PROTOCOL,
    run_id="run",
    labels=("no", "yes"),
    fingerprint=MARK,
    model_files=(),
    max_length=64,
    head="mean",
    dtype="float32",
)


def device_join(name: str = "ada", *, epoch: int = 1, uuid: str = "u1") -> Join:
    """Return the join of a device of class `agx`."""
    profile = DeviceProfile(name=name, device_class="agx", num_examples=1)
    return changed(JOIN, name=name, epoch=epoch, device_uuid=uuid, profile=profile)


def edge_join(name: str = "north", *, epoch: int = 1, uuid: str = "u1", takes_revocations: bool = True) -> Join:
    """Return the join of an edge at NAME:1."""
    join = changed(JOIN, name=name, epoch=epoch, device_uuid=uuid, role=Role.EDGE, profile=None)
    return changed(join, takes_revocations=takes_revocations, address=f"{name}:1")


def identity(name: str, kind: Any = "device", serial: int = 7) -> Identity:
    """Return what a certificate says."""
    return Identity(kind=kind, name=name, serial=serial)


def outbox(session: Session) -> list[Any]:
    """Take everything that waits to be sent; None where the stream is to close."""
    return [session.outbox.get_nowait() for _ in range(session.outbox.qsize())]


class Lists(RevocationWatch):
    """A list of revoked certificates that a test changes."""

    def revoke(self, *serials: int) -> None:
        """Revoke certificates; in force from the next look on."""
        since = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
        revoked = {**self.current.revoked, **dict.fromkeys(serials, since)}
        self.next = RevocationList(number=self.current.number + 1, revoked=revoked, der=b"crl")

    def refresh(self) -> bool:
        """Put the next list in force."""
        newer = getattr(self, "next", self.current)
        self.current, changes = newer, newer is not self.current
        return changes


class _Question:
    def __await__(self) -> Generator[None, None, None]:
        yield


@dataclass
class FakeParent:
    """`asks`: whether a join waits in `admit` until `answer`. `refusal` is what `admit` raises then."""

    asks: bool = False
    refusal: FedcoreError | None = None
    lists: Lists = field(default_factory=Lists)
    asked: list[Join] = field(default_factory=list)
    news: list[tuple[Any, ...]] = field(default_factory=list)
    arrived: list[AnySession] = field(default_factory=list)
    departed: list[tuple[AnySession, Departure]] = field(default_factory=list)
    messages: list[tuple[Session, AnyUpward]] = field(default_factory=list)
    alive: list[Session] = field(default_factory=list)
    needs: dict[str, int] = field(default_factory=dict)
    joining: list[Coroutine[Any, Any, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.membership = Membership(
            MembershipHooks(
                describe=self._describe,
                admit=self._admit,
                arrived=self._arrived,
                departed=self._departed,
                alive=self.alive.append,
                message=lambda session, message: self.messages.append((session, message)),
                evicted=lambda session: self.news.append(("evicted", session.name)),
                revocations_refused=lambda message: self.news.append(("revocations refused", message)),
                revocations_changed=lambda current: self.news.append(("revocations", current.number)),
                withdrawn=lambda join: self.news.append(("withdrawn", join.name)),
                refused=lambda name, error: self.news.append(("refused", name, str(error))),
                spawn=self.begin,
            ),
            self.lists,
        )

    async def _describe(self, newcomer: Newcomer) -> tuple[RunDescription, dict[str, int]]:
        if self.refusal is not None:
            raise self.refusal
        return DESCRIPTION, self.needs

    async def _admit(self, join: Join) -> Welcome:
        self.asked.append(join)
        if self.asks:
            await _Question()
        if self.refusal is not None:
            raise self.refusal
        return WELCOME

    def _arrived(self, session: AnySession) -> None:
        self.arrived.append(session)
        self.news.append(("arrived", session.name))

    def _departed(self, session: AnySession, departure: Departure) -> None:
        self.departed.append((session, departure))
        self.news.append(("departed", session.name, departure.cause, departure.lost))

    def begin(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine until it is done, and return its result, or until its parent is asked."""
        try:
            work.send(None)
        except StopIteration as end:
            return end.value
        self.joining.append(work)
        return None

    def answer(self, index: int = 0) -> Any:
        """Have one of the joins that wait go on to its end, and return its session."""
        try:
            self.joining.pop(index).send(None)
        except StopIteration as end:
            return end.value
        raise AssertionError("a join asks once")

    def join(self, join: Join, identity: Identity | None = None) -> Any:
        """Join on a stream of its own; None while the parent is asked."""
        return self.begin(self.membership.join(join, identity))

    def below(self, edge: Session, *names: str) -> list[RelayedSession]:
        """Present devices of epoch 1 below an edge, and return their sessions; what the edge is sent is dropped."""
        for name in names:
            self.membership.receive(edge, LeafJoin(join=device_join(name)))
        outbox(edge)
        devices = (self.membership.edges.device_below(edge, name) for name in names)
        return [device for device in devices if device is not None]


LEFT, LOST = Departure(cause=Cause.LEFT), Departure(cause=Cause.LEFT, lost=True)
REPLACED, DISMISSED = Departure(cause=Cause.REPLACED), Departure(cause=Cause.DISMISSED)
REVOKED = Departure(cause=Cause.REVOKED, lost=True)
