"""Every session ends once, and its parent hears how: departures, dismissals, the close, revoked certificates."""

from dataclasses import replace

import pytest

from fedcore.core.errors import TransportError
from fedcore.protos.tier_values import Revocations
from fedcore.protos.values import Goodbye, Role
from fedcore.server.members.hooks import Cause, Departure
from tests.server.members.fake_parent import (
    DISMISSED,
    LEFT,
    LOST,
    REVOKED,
    WELCOME,
    FakeParent,
    device_join,
    edge_join,
    identity,
    outbox,
)
from tests.server.members.test_admission import EVALUATOR


@pytest.fixture
def parent() -> FakeParent:
    return FakeParent()


def test_a_session_ends_once_however_often_its_end_is_told(parent: FakeParent) -> None:
    ended = {"left": parent.membership.leave, "lost": parent.membership.expire}
    for name, end in ended.items():
        session = parent.join(device_join(name))
        for _ in range(2):
            end(session)
        parent.membership.leave(session)
        assert (None in outbox(session)) == (name == "lost"), "a silent one's stream is closed"
    assert [departure for _, departure in parent.departed] == [LEFT, LOST]


@pytest.mark.parametrize("goodbye", ["", "done"])
def test_the_tier_above_dismisses_a_session(parent: FakeParent, goodbye: str) -> None:
    session = parent.join(device_join())
    parent.membership.dismiss(session, goodbye)
    parent.membership.leave(session)
    assert outbox(session)[1:] == [*([Goodbye(reason=goodbye)] if goodbye else []), None]
    assert parent.departed == [(session, DISMISSED)]


def test_members_of_some_roles_are_sent_home(parent: FakeParent) -> None:
    evaluator = parent.join(replace(EVALUATOR, device_uuid="u1"))
    device, edge = parent.join(device_join()), parent.join(edge_join())
    parent.below(edge, "bob")
    parent.membership.send_away("done", roles=(Role.DEVICE, Role.EDGE))
    assert [outbox(session)[-2:] for session in (device, edge)] == [
        [Goodbye(reason="done"), None],
        [Goodbye(reason="done"), None],
    ]
    assert None not in outbox(evaluator) and parent.departed == []


def test_devices_that_leave_after_the_close_go_unreported(parent: FakeParent) -> None:
    device, edge = parent.join(device_join()), parent.join(edge_join())
    parent.below(edge, "bob")
    parent.membership.close("done", refusal="over")
    for session in (device, edge):
        assert outbox(session)[-2:] == [Goodbye(reason="done"), None]
        parent.membership.leave(session)
    assert parent.departed == [(edge, LEFT)]
    with pytest.raises(TransportError, match="over"):
        parent.membership.check_open()


class Timers:
    """Timers that are looked at, never run."""

    def __init__(self) -> None:
        self.delays_s: list[float] = []
        self.cancelled = 0

    def later(self, delay_s: float, act: object) -> "Timers":
        self.delays_s.append(delay_s)
        return self

    def cancel(self) -> None:
        self.cancelled += 1


def test_revocations_are_looked_for_three_times_a_lease_until_the_close(parent: FakeParent) -> None:
    timers = Timers()
    parent.membership.guard.begin(timers, 3.0)  # type: ignore[arg-type]
    parent.membership.close(None, refusal="over")
    assert timers.delays_s == [1.0] and timers.cancelled == 1


# --- revoked certificates ---


def test_a_new_list_evicts_its_members_and_goes_to_the_edges_that_take_it(parent: FakeParent) -> None:
    ada, bob = (parent.join(device_join(name), identity(name, serial=n)) for n, name in ((1, "ada"), (2, "bob")))
    north = parent.join(edge_join("north"), identity("north", "edge", 3))
    south = parent.join(edge_join("south", takes_revocations=False), identity("south", "edge", 4))
    parent.lists.revoke(1)
    parent.membership.guard.look()
    assert parent.news[4:] == [("revocations", 1), ("evicted", "ada"), ("departed", "ada", Cause.REVOKED, True)]
    assert parent.departed == [(ada, REVOKED)] and outbox(ada) == [None] and "was revoked" in str(ada.fault)
    assert outbox(north)[1:] == [Revocations(crl=b"crl")] and outbox(south)[1:] == [] and None not in outbox(bob)
    late = parent.join(edge_join("late"), identity("late", "edge", 5))
    assert outbox(late) == [replace(WELCOME, session=late.token), Revocations(crl=b"crl")]


def test_devices_below_a_revoked_edge_are_not_lost(parent: FakeParent) -> None:
    edge = parent.join(edge_join(), identity("north", "edge", 3))
    (device,) = parent.below(edge, "ada")
    parent.lists.revoke(3)
    parent.membership.guard.look()
    assert parent.departed == [(device, LEFT), (edge, Departure(cause=Cause.REVOKED))]
