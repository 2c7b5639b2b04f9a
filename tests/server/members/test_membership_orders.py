"""What holds of a membership in any order: joins that overlap, newer and older epochs, departures, revocations."""

import contextlib
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fedcore.core.errors import FedcoreError, JoinRefused
from fedcore.protos.tier_values import LeafJoin, LeafLeft
from fedcore.protos.values import AssignmentFailure, Role
from fedcore.server.members.sessions import AnySession, RelayedSession, Session
from tests.server.members.fake_parent import FakeParent, device_join, edge_join, identity

FAILURE = AssignmentFailure(round=1, message="out of memory")
DEVICES, EDGES = st.sampled_from(["ada", "bob"]), st.sampled_from(["north", "south"])
EPOCHS, DEVICE_IDS, CHOICES = st.integers(1, 5), st.sampled_from(["u1", "u2"]), st.integers(0, 1 << 16)


def place(session: AnySession) -> tuple[bool, str]:
    """Whether it is an edge, and its name: an edge and a device may have the same name."""
    return session.join.role is Role.EDGE, session.name


class Members(RuleBasedStateMachine):
    """A parent that answers joins in any order, while its members do what they like."""

    def __init__(self) -> None:
        super().__init__()
        self.parent = FakeParent(asks=True)
        self.membership = self.parent.membership
        self.serials = 0

    def live(self) -> list[AnySession]:
        """Sessions that have arrived and not departed."""
        ended = {id(session) for session, _ in self.parent.departed}
        return [session for session in self.parent.arrived if id(session) not in ended]

    def streams(self) -> list[Session]:
        """Every session that has had a stream of its own."""
        return [session for session in self.parent.arrived if isinstance(session, Session)]

    def edges(self) -> list[Session]:
        """Every session that an edge has had."""
        return [session for session in self.streams() if session.join.role is Role.EDGE]

    @rule(name=DEVICES, epoch=EPOCHS, uuid=DEVICE_IDS)
    def a_device_comes(self, name: str, epoch: int, uuid: str) -> None:
        self.serials += 1
        with contextlib.suppress(JoinRefused):
            self.parent.join(device_join(name, epoch=epoch, uuid=uuid), identity(name, serial=self.serials))

    @rule(name=EDGES, epoch=EPOCHS)
    def an_edge_comes(self, name: str, epoch: int) -> None:
        self.serials += 1
        with contextlib.suppress(JoinRefused):
            self.parent.join(edge_join(name, epoch=epoch), identity(name, "edge", self.serials))

    @precondition(lambda self: self.edges())
    @rule(chosen=CHOICES, name=DEVICES, epoch=EPOCHS, uuid=DEVICE_IDS)
    def an_edge_presents_a_device(self, chosen: int, name: str, epoch: int, uuid: str) -> None:
        edge = self.edges()[chosen % len(self.edges())]
        self.membership.receive(edge, LeafJoin(join=device_join(name, epoch=epoch, uuid=uuid)))

    @precondition(lambda self: self.edges())
    @rule(chosen=CHOICES, name=DEVICES, lost=st.booleans(), revoked=st.booleans())
    def an_edge_says_a_device_left(self, chosen: int, name: str, lost: bool, revoked: bool) -> None:
        edge = self.edges()[chosen % len(self.edges())]
        self.membership.receive(edge, LeafLeft(device=name, lost=lost, revoked=revoked))

    @precondition(lambda self: self.parent.joining)
    @rule(chosen=CHOICES)
    def a_join_is_answered(self, chosen: int) -> None:
        with contextlib.suppress(FedcoreError):
            self.parent.answer(chosen % len(self.parent.joining))

    @precondition(lambda self: self.streams())
    @rule(chosen=CHOICES, end=st.sampled_from(["leave", "expire"]))
    def a_stream_ends(self, chosen: int, end: str) -> None:
        getattr(self.membership, end)(self.streams()[chosen % len(self.streams())])

    @precondition(lambda self: self.live())
    @rule(chosen=CHOICES)
    def the_tier_above_dismisses_a_device(self, chosen: int) -> None:
        session = self.live()[chosen % len(self.live())]
        if session.join.role is Role.DEVICE:
            self.membership.dismiss(session, "")

    @precondition(lambda self: self.serials)
    @rule(chosen=CHOICES)
    def a_certificate_is_revoked(self, chosen: int) -> None:
        self.parent.lists.revoke(1 + chosen % self.serials)
        self.membership.guard.look()
        revoked = self.membership.guard.watch.current.revoked
        assert not [s for s in self.live() if isinstance(s, Session) and s.identity and s.identity.serial in revoked]

    @precondition(lambda self: self.streams())
    @rule(chosen=CHOICES)
    def a_session_speaks(self, chosen: int) -> None:
        session = self.streams()[chosen % len(self.streams())]
        before, live = len(self.parent.messages), session in self.live()
        self.membership.receive(session, FAILURE)
        self.membership.sign_of_life(session)
        assert len(self.parent.messages) - before == int(live)
        assert (self.membership.session_of(session.name, session.token) is session) == live

    @invariant()
    def one_session_of_a_name_is_live(self) -> None:
        live = self.live()
        assert max(Counter(map(place, live)).values(), default=0) <= 1
        assert set(self.membership.sessions) | set(self.membership.edges) == set(live)

    @invariant()
    def a_relayed_device_is_below_a_live_edge(self) -> None:
        relayed = {session for session in self.live() if isinstance(session, RelayedSession)}
        assert {session.stream for session in relayed} <= set(self.membership.edges)
        below = [device for edge in self.membership.edges for device in self.membership.edges.devices_below(edge)]
        assert len(below) == len(relayed) and set(below) == relayed

    @invariant()
    def no_session_departs_twice_or_without_having_come(self) -> None:
        assert max(Counter(id(session) for session, _ in self.parent.departed).values(), default=0) <= 1
        assert {id(session) for session, _ in self.parent.departed} <= {id(session) for session in self.parent.arrived}

    @invariant()
    def epochs_of_a_device_rise_while_the_name_is_its_own(self) -> None:
        last: dict[Any, AnySession] = {}
        for session in self.parent.arrived:
            older = last.get(place(session))
            if older is not None and older.join.device_uuid == session.join.device_uuid:
                again = isinstance(session, RelayedSession)  # an edge presents the same session again
                assert session.join.epoch + again > older.join.epoch
            last[place(session)] = session

    def teardown(self) -> None:
        """Every arrival has exactly one departure."""
        while self.parent.joining:
            self.a_join_is_answered(0)
        for session in self.streams():
            self.membership.leave(session)
        assert len(self.parent.departed) == len(self.parent.arrived) and self.live() == []
        assert list(self.membership.sessions) == [] and list(self.membership.edges) == []


TestMembers = Members.TestCase
TestMembers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(epochs=st.permutations([1, 2, 3, 4]), answers=st.lists(CHOICES, min_size=4, max_size=4))
def test_the_newest_session_of_a_device_is_live_in_the_end_whatever_comes_first(
    epochs: list[int], answers: list[int]
) -> None:
    parent = FakeParent(asks=True)
    for epoch in epochs:
        parent.join(device_join(epoch=epoch))
    for chosen in answers:
        with contextlib.suppress(JoinRefused):
            parent.answer(chosen % len(parent.joining))
    (session,) = parent.membership.sessions
    assert session.join.epoch == 4 and parent.arrived[-1] is session
    assert [departed for departed, _ in parent.departed] == parent.arrived[:-1]
