"""An outbox of bounded size: who does not read is cut off, and never holds anybody up."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from protos.values import Goodbye, Join, RoundClosed
from server.session import OUTBOX, Session
from tests.server.test_admission import JOIN
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
