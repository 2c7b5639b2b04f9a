"""What an edge says upwards: in order, and every question ends, with an answer or with the reason for none."""

import asyncio
from dataclasses import replace
from typing import Any, cast

import pytest

from fedcore.core.errors import CertificateError, FedcoreError, JoinRefused, TransportError
from fedcore.protos.tier_values import Holding, LeafJoin, LeafJoined, LeafLeft, LeafRefused
from fedcore.protos.values import Welcome
from fedcore.server.edge.uplink import EdgeUplink
from fedcore.transport.link import Stream
from tests.server.members.test_admission import JOIN
from tests.tiny_run import PATIENCE_S, timeout

WELCOME = Welcome(session="s1", labels=("a", "b"), lease_s=1.0, keep_set="", targets=())
ADA = replace(JOIN, name="ada")


class Line:
    """A stream that keeps what was sent; a broken one raises."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.broken = False
        self._more = asyncio.Event()

    async def send(self, message: Any) -> None:
        if self.broken:
            raise TransportError("broken")
        self.sent.append(message)
        self._more.set()

    async def until(self, count: int) -> list[Any]:
        async with timeout(PATIENCE_S):
            while len(self.sent) < count:
                self._more.clear()
                await self._more.wait()
        return self.sent


def connected(line: Line, answer_s: float = PATIENCE_S) -> EdgeUplink:
    uplink = EdgeUplink(answer_s=answer_s)
    uplink.set_stream(WELCOME, cast(Stream, line))
    return uplink


async def test_what_is_said_arrives_in_order() -> None:
    line = Line()
    uplink = connected(line)
    said = [LeafLeft(device=f"d{number}") for number in range(9)]
    for each in said:
        uplink.send(each)
    assert await line.until(9) == said and uplink.session == "s1" and uplink.connected
    uplink.drop_stream()


async def test_what_is_said_without_a_stream_is_not_said_later() -> None:
    uplink = EdgeUplink(answer_s=1.0)
    uplink.send(Holding(blobs=("a",)))
    line = Line()
    uplink.set_stream(WELCOME, cast(Stream, line))
    uplink.send(Holding(blobs=("b",)))
    assert await line.until(1) == [Holding(blobs=("b",))]
    uplink.drop_stream()
    uplink.send(Holding(blobs=("c",)))
    second = Line()
    uplink.set_stream(replace(WELCOME, session="s2"), cast(Stream, second))
    uplink.send(Holding(blobs=("d",)))
    assert await second.until(1) == [Holding(blobs=("d",))] and len(line.sent) == 1 and uplink.session == "s2"
    uplink.drop_stream()


async def test_an_answer_goes_to_who_asked() -> None:
    line = Line()
    uplink = connected(line)
    asked = {name: asyncio.ensure_future(uplink.ask(replace(JOIN, name=name))) for name in ("ada", "bob")}
    assert {each.device for each in await line.until(2)} == {"ada", "bob"}
    assert uplink.take_answer(LeafJoined(device="bob", welcome=replace(WELCOME, session="bob")))
    assert uplink.take_answer(LeafRefused(device="ada", error="JoinRefused", message="another model"))
    assert (await asked["bob"]).session == "bob"
    with pytest.raises(JoinRefused, match="another model"):
        await asked["ada"]
    assert not uplink.take_answer(LeafJoined(device="bob", welcome=WELCOME)), "nobody asks any more"
    uplink.drop_stream()


@pytest.mark.parametrize(("name", "kind"), [("CertificateError", CertificateError), ("OfTomorrow", FedcoreError)])
async def test_a_refusal_keeps_its_class_where_it_is_known(name: str, kind: type[FedcoreError]) -> None:
    line = Line()
    uplink = connected(line)
    asked = asyncio.ensure_future(uplink.ask(ADA))
    await line.until(1)
    uplink.take_answer(LeafRefused(device="ada", error=name, message="no"))
    with pytest.raises(kind, match="no"):
        await asked
    uplink.drop_stream()


async def test_a_newer_session_supersedes_the_question_of_the_older() -> None:
    line = Line()
    uplink = connected(line)
    older = asyncio.ensure_future(uplink.ask(ADA))
    await line.until(1)
    newer = asyncio.ensure_future(uplink.ask(replace(ADA, epoch=2)))
    with pytest.raises(TransportError, match="ada has joined again meanwhile"):
        await older
    assert await line.until(2) == [LeafJoin(join=ADA), LeafJoin(join=replace(ADA, epoch=2))]
    assert uplink.take_answer(LeafJoined(device="ada", welcome=WELCOME))
    assert await newer == WELCOME
    uplink.drop_stream()


async def test_silence_ends_a_question() -> None:
    line = Line()
    uplink = connected(line, answer_s=0.01)
    with pytest.raises(TransportError, match=r"no answer to the join of ada for 0\.01 s"):
        await uplink.ask(ADA)
    assert not uplink.take_answer(LeafJoined(device="ada", welcome=WELCOME))
    uplink.drop_stream()


async def test_a_lost_stream_ends_every_question_and_the_next_one_asks_anew() -> None:
    line = Line()
    uplink = connected(line)
    asked = [asyncio.ensure_future(uplink.ask(replace(JOIN, name=name))) for name in ("ada", "bob")]
    await line.until(2)
    uplink.drop_stream()
    for each in asked:
        with pytest.raises(TransportError, match="lost the tier above"):
            await each
    again, second = asyncio.ensure_future(uplink.ask(ADA)), Line()
    await asyncio.sleep(0)
    uplink.set_stream(WELCOME, cast(Stream, second))
    await second.until(1)
    uplink.take_answer(LeafJoined(device="ada", welcome=WELCOME))
    assert await again == WELCOME
    uplink.drop_stream()


async def test_who_asks_while_nobody_is_above_is_sent_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedcore.server.edge.uplink.MOMENT_S", 0.01)
    with pytest.raises(TransportError, match="join again, or elsewhere"):
        await EdgeUplink(answer_s=1.0).ask(ADA)


async def test_who_gives_up_leaves_no_question_behind() -> None:
    line = Line()
    uplink = connected(line)
    asked = asyncio.ensure_future(uplink.ask(ADA))
    await line.until(1)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    assert not uplink.take_answer(LeafJoined(device="ada", welcome=WELCOME))
    uplink.drop_stream()


async def test_a_stream_that_breaks_under_a_message_is_the_readers_to_notice() -> None:
    line = Line()
    uplink = connected(line)
    line.broken = True
    uplink.send(LeafLeft(device="ada"))
    for _ in range(5):
        await asyncio.sleep(0)
    assert uplink.connected and line.sent == []
    uplink.drop_stream()
    assert not uplink.connected
