"""An outbox of bounded size: who does not read is cut off, and never holds anybody up."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.errors import CertificateError
from fedcore.protos.tier_values import LeafDismissed, LeafJoined
from fedcore.protos.values import Downward, Goodbye, Join, Role, RoundClosed, UpdateVerdict, Verdict, Welcome
from fedcore.server.members.sessions import EDGE_OUTBOX, OUTBOX, RelayedSession, Session
from tests.server.members.test_admission import JOIN
from tests.tiny_run import PATIENCE_S


def drain(session: Session) -> list[object]:
    return [session.outbox.get_nowait() for _ in range(session.outbox.qsize())]


def test_messages_come_out_in_order_and_the_end_comes_last() -> None:
    session = Session(JOIN)
    sent = [RoundClosed(round=number) for number in range(5)]
    for message in sent:
        session.send(message)
    session.close()
    assert drain(session) == [*sent, None]


def test_a_peer_that_does_not_read_is_cut_off() -> None:
    session = Session(JOIN)
    for number in range(10 * OUTBOX):
        session.send(RoundClosed(round=number))
    waiting = drain(session)
    assert len(waiting) <= OUTBOX and None in waiting


def test_closing_a_full_outbox_does_not_wait() -> None:
    session = Session(JOIN)
    for number in range(OUTBOX):
        session.send(RoundClosed(round=number))
    session.close()
    assert drain(session)[-1] is None


def test_tokens_are_not_guessable_and_belong_to_one_session() -> None:
    tokens = {Session(JOIN).token for _ in range(50)}
    assert len(tokens) == 50 and min(len(token) for token in tokens) == 32
    assert Session(JOIN).name == "agx-0" and isinstance(JOIN, Join)


EDGE = replace(JOIN, role=Role.EDGE, name="north", profile=None)


def test_a_device_below_an_edge_is_spoken_to_with_its_name_on_the_edges_stream() -> None:
    edge = Session(EDGE)
    leaf = RelayedSession(JOIN, edge)
    assert leaf.stream is edge and edge.stream is edge and leaf.name == "agx-0" and leaf.token == ""
    welcome = Welcome(session="", labels=("a",), lease_s=1.0, keep_set="", targets=())
    leaf.send(welcome)
    assert drain(edge) == [LeafJoined(device="agx-0", welcome=welcome)]


def test_a_device_below_an_edge_is_dismissed_once() -> None:
    edge = Session(EDGE)
    leaf = RelayedSession(replace(JOIN, epoch=7), edge)
    leaf.send(Goodbye(reason="done"))
    leaf.close()
    leaf.send(Goodbye(reason="again"))
    assert drain(edge) == [LeafDismissed(device="agx-0", epoch=7, goodbye="done")]
    other = RelayedSession(JOIN, edge)
    other.close()
    other.close()
    assert drain(edge) == [LeafDismissed(device="agx-0", epoch=1)]


@pytest.mark.parametrize("message", [RoundClosed(round=1), UpdateVerdict(round=1, verdict=Verdict.ACCEPTED)])
def test_an_edge_says_by_itself_what_goes_to_all_its_devices(message: Downward) -> None:
    with pytest.raises(TypeError, match=f"{type(message).__name__} does not go through an edge one by one"):
        RelayedSession(JOIN, Session(EDGE)).send(message)


def test_an_edges_outbox_holds_a_word_for_each_of_many_devices() -> None:
    edge = Session(EDGE)
    for number in range(EDGE_OUTBOX):
        RelayedSession(replace(JOIN, name=f"d{number}"), edge).close()
    assert edge.outbox.full() and None not in drain(edge)
    edge.send(RoundClosed(round=1))
    edge.close()
    assert drain(edge) == [RoundClosed(round=1), None]


def test_a_session_that_is_cut_off_says_nothing_more_than_why() -> None:
    session, fault = Session(JOIN), CertificateError("revoked")
    for number in range(3):
        session.send(RoundClosed(round=number))
    session.cut_off(fault)
    assert drain(session) == [None] and session.fault is fault


@settings(max_examples=50, deadline=None)
@given(sizes=st.lists(st.integers(0, 2 * OUTBOX), min_size=1, max_size=6))
def test_a_reader_always_finds_the_end(sizes: list[int]) -> None:
    async def play() -> None:
        session = Session(JOIN)
        for size in sizes:
            for number in range(size):
                session.send(RoundClosed(round=number))
            if session.outbox.qsize():
                session.outbox.get_nowait()
        session.send(Goodbye(reason="done"))
        session.close()
        while await asyncio.wait_for(session.outbox.get(), PATIENCE_S) is not None:
            pass

    asyncio.run(play())
