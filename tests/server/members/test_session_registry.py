"""One session a name: a newer session of a device replaces it, other devices and stale sessions do not."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.errors import JoinRefused
from fedcore.protos.values import Role
from fedcore.server.members.session_registry import SessionRegistry
from fedcore.server.members.sessions import RelayedSession, Session
from tests.server.members.test_admission import EVALUATOR, JOIN


def register(sessions: SessionRegistry, epoch: int = 1, uuid: str = "uuid") -> Session:
    join = replace(JOIN, epoch=epoch, device_uuid=uuid)
    session = Session(join)
    sessions.register(session)
    return session


def test_a_newer_session_replaces_and_closes_the_older() -> None:
    sessions = SessionRegistry()
    older, newer = register(sessions, 1), register(sessions, 2)
    assert sessions.is_current(newer) and not sessions.is_current(older) and sessions.find("agx-0") is newer
    assert older.outbox.get_nowait() is None and newer.outbox.empty() and sessions.number("agx-0") == 2
    assert not sessions.remove(older) and sessions.find("agx-0") is newer


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_stale_session_is_refused_also_after_the_newer_one_left(epoch: int) -> None:
    sessions = SessionRegistry()
    session = register(sessions, 2)
    for _ in range(2):
        with pytest.raises(JoinRefused, match="this one is stale"):
            sessions.next_number(replace(JOIN, epoch=epoch))
        sessions.remove(session)


def test_another_device_gets_the_name_only_once_it_is_free() -> None:
    sessions = SessionRegistry()
    session = register(sessions, 5)
    with pytest.raises(JoinRefused, match="another device named agx-0 is connected"):
        sessions.next_number(replace(JOIN, device_uuid="other"))
    assert sessions.remove(session)
    assert sessions.is_current(register(sessions, 1, "other")) and sessions.number("agx-0") == 2


def test_profiles_outlive_their_sessions_and_evaluators_have_none() -> None:
    sessions = SessionRegistry()
    session = register(sessions)
    evaluator = Session(EVALUATOR)
    sessions.register(evaluator)
    assert {each.name for each in sessions} == {"agx-0", "eval"}
    sessions.remove(session)
    assert list(sessions.profiles) == ["agx-0"] and [each.name for each in sessions] == ["eval"]
    sessions.clear()
    assert list(sessions) == []


def test_an_edge_may_present_a_session_again_that_has_ended() -> None:
    sessions = SessionRegistry()
    session = register(sessions, 2)
    with pytest.raises(JoinRefused, match="this one is stale"):
        sessions.next_number(session.join, presented=True)  # it is here: an echo must not replace the session itself
    sessions.remove(session)
    with pytest.raises(JoinRefused, match="this one is stale"):
        sessions.next_number(session.join)  # by itself a device comes with a new epoch
    assert sessions.next_number(session.join, presented=True) == 2
    for epoch in (0, 1):
        with pytest.raises(JoinRefused, match="this one is stale"):
            sessions.next_number(replace(JOIN, epoch=epoch), presented=True)


def test_an_older_path_cannot_replace_a_newer_one() -> None:
    sessions = SessionRegistry()
    older, edge = register(sessions, 1), Session(replace(JOIN, role=Role.EDGE, name="north", profile=None))
    newer = RelayedSession(replace(JOIN, epoch=2), edge)
    assert sessions.register(newer) is older
    with pytest.raises(JoinRefused, match="this one is stale"):
        sessions.next_number(older.join, presented=True)
    assert not sessions.remove(older) and sessions.remove(newer)
    with pytest.raises(JoinRefused, match="this one is stale"):
        sessions.next_number(older.join, presented=True)


@given(joins=st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 4), st.booleans()), max_size=20))
def test_numbers_only_rise_and_at_most_one_session_is_registered(joins: list[tuple[str, int, bool]]) -> None:
    sessions, last = SessionRegistry(), 0
    for uuid, epoch, leaves in joins:
        try:
            session = register(sessions, epoch, uuid)
        except JoinRefused:
            continue
        assert sessions.number("agx-0") == last + 1
        last += 1
        assert list(sessions) == [session]
        if leaves:
            assert sessions.remove(session) and not sessions.remove(session)
