"""One seat per name: newer sessions of a device take it, other devices and stale sessions do not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.errors import JoinRefused
from fedcore.protos.values import Role
from fedcore.server.members.session_registry import SessionRegistry
from fedcore.server.members.sessions import RelayedSession, Session
from tests.server.members.test_admission import EVALUATOR, JOIN


def seat(seats: SessionRegistry, epoch: int = 1, uuid: str = "uuid") -> Session:
    join = replace(JOIN, epoch=epoch, device_uuid=uuid)
    session = Session(join)
    seats.take(session, seats.next_number(join))
    return session


def test_a_newer_session_takes_the_seat_and_closes_the_older() -> None:
    seats = SessionRegistry()
    older, newer = seat(seats, 1), seat(seats, 2)
    assert seats.holds(newer) and not seats.holds(older) and seats.find("agx-0") is newer
    assert older.outbox.get_nowait() is None and newer.outbox.empty() and seats.number("agx-0") == 2
    assert not seats.leave(older) and seats.find("agx-0") is newer


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_stale_session_is_refused_also_after_the_newer_one_left(epoch: int) -> None:
    seats = SessionRegistry()
    session = seat(seats, 2)
    for _ in range(2):
        with pytest.raises(JoinRefused, match="this one is stale"):
            seats.next_number(replace(JOIN, epoch=epoch))
        seats.leave(session)


def test_another_device_gets_the_name_only_once_it_is_free() -> None:
    seats = SessionRegistry()
    session = seat(seats, 5)
    with pytest.raises(JoinRefused, match="another device named agx-0 is connected"):
        seats.next_number(replace(JOIN, device_uuid="other"))
    assert seats.leave(session)
    assert seats.holds(seat(seats, 1, "other")) and seats.number("agx-0") == 2


def test_profiles_outlive_their_sessions_and_evaluators_have_none() -> None:
    seats = SessionRegistry()
    session = seat(seats)
    evaluator = Session(EVALUATOR)
    seats.take(evaluator, seats.next_number(EVALUATOR))
    assert {each.name for each in seats} == {"agx-0", "eval"}
    seats.leave(session)
    assert list(seats.profiles) == ["agx-0"] and [each.name for each in seats] == ["eval"]
    seats.clear()
    assert list(seats) == []


def test_an_edge_may_present_a_session_again_that_has_lost_its_seat() -> None:
    seats = SessionRegistry()
    session = seat(seats, 2)
    with pytest.raises(JoinRefused, match="this one is stale"):
        seats.next_number(session.join, presented=True)  # it is here: an echo must not take its own seat
    seats.leave(session)
    with pytest.raises(JoinRefused, match="this one is stale"):
        seats.next_number(session.join)  # by itself a device comes with a new epoch
    assert seats.next_number(session.join, presented=True) == 2
    for epoch in (0, 1):
        with pytest.raises(JoinRefused, match="this one is stale"):
            seats.next_number(replace(JOIN, epoch=epoch), presented=True)


def test_an_older_path_cannot_take_the_seat_from_a_newer_one() -> None:
    seats = SessionRegistry()
    older, edge = seat(seats, 1), Session(replace(JOIN, role=Role.EDGE, name="north", profile=None))
    newer = RelayedSession(replace(JOIN, epoch=2), edge)
    assert seats.take(newer, seats.next_number(newer.join, presented=True)) is older
    with pytest.raises(JoinRefused, match="this one is stale"):
        seats.next_number(older.join, presented=True)
    assert not seats.leave(older) and seats.leave(newer)
    with pytest.raises(JoinRefused, match="this one is stale"):
        seats.next_number(older.join, presented=True)


@given(joins=st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4), st.booleans()), max_size=20))
def test_numbers_only_rise_and_at_most_one_session_is_seated(joins: list[tuple[str, int, bool]]) -> None:
    seats, last = SessionRegistry(), 0
    for uuid, epoch, leaves in joins:
        try:
            session = seat(seats, epoch, uuid)
        except JoinRefused:
            continue
        assert seats.number("agx-0") == last + 1
        last += 1
        assert list(seats) == [session]
        if leaves:
            assert seats.leave(session) and not seats.leave(session)
