"""Coming back after interruptions, giving up after a while, and not retrying what retrying cannot mend."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

import fedcore.transport.parent_connection as module
from fedcore.core.errors import CertificateError, FedcoreError, JoinRefused, ProtocolError, TransportError
from fedcore.protos.values import Downward, Goodbye, Heartbeat, RoundClosed, Welcome
from fedcore.transport.parent_connection import ParentConnection
from tests.client.conftest import WELCOME, broken
from tests.tiny_run import PATIENCE_S

SILENT = object()  # the other side says nothing, for ever
Script = list[Any]  # what one stream answers: values, None for its end, errors to raise, SILENT


@dataclass
class Settings:
    silence_s: float = 0.05


@dataclass
class ScriptedStream:
    answers: Script
    sent: list[Any]

    async def __aenter__(self) -> "ScriptedStream":
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def send(self, value: Any) -> None:
        self.sent.append(value)

    async def receive(self) -> Downward | None:
        answer = self.answers.pop(0)
        if answer is SILENT:
            await asyncio.Event().wait()
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[no-any-return]


@dataclass
class ScriptedLink:
    """Every connection plays the next script; the last one is played again and again."""

    scripts: list[Script]
    targets: tuple[str, ...] = ("127.0.0.1:1",)
    settings: Settings = field(default_factory=Settings)
    contact_s: float = 0.05
    sent: list[Any] = field(default_factory=list)
    tried: list[str] = field(default_factory=list)
    at: int = 0

    @property
    def connections(self) -> int:
        return len(self.tried)

    @property
    def target(self) -> str:
        return self.targets[self.at]

    async def switch(self) -> None:
        self.at = (self.at + 1) % len(self.targets)

    def connect(self) -> ScriptedStream:
        script = self.scripts[min(self.connections, len(self.scripts) - 1)]
        self.tried.append(self.target)
        return ScriptedStream(list(script), self.sent)


@dataclass
class Watched:
    welcomes: int = 0
    messages: list[Downward] = field(default_factory=list)
    said: list[str] = field(default_factory=list)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 0.002)
    monkeypatch.setattr(module, "LONGEST_PAUSE_S", 0.01)


def member(link: ScriptedLink, seen: Watched, *, reconnect_s: float = 0.15) -> ParentConnection:
    async def make_join() -> Any:
        return "join"

    async def welcome(welcome: Welcome, stream: Any) -> None:
        seen.welcomes += 1

    async def message(message: Downward, stream: Any) -> None:
        seen.messages.append(message)

    return ParentConnection(
        link=link,  # type: ignore[arg-type]
        make_join=make_join,
        on_welcome=welcome,
        on_message=message,
        say=seen.said.append,
        reconnect_s=reconnect_s,
    )


async def run(
    *scripts: Script, targets: tuple[str, ...] = ("127.0.0.1:1",), **options: Any
) -> tuple[str, ScriptedLink, Watched]:
    link, seen = ScriptedLink(list(scripts), targets), Watched()
    reason = await asyncio.wait_for(member(link, seen, **options).run(), PATIENCE_S)
    return reason, link, seen


async def test_messages_reach_the_member_until_the_goodbye() -> None:
    closed = RoundClosed(round=1)
    reason, link, seen = await run([WELCOME, closed, closed, Goodbye(reason="done")])
    assert reason == "done" and seen.messages == [closed, closed] and seen.welcomes == 1
    assert link.sent[0] == "join" and link.connections == 1


@pytest.mark.parametrize("interruption", [None, broken()], ids=["closed", "broken"])
async def test_a_member_comes_back_after_every_interruption(interruption: Any) -> None:
    reason, link, seen = await run([WELCOME, interruption], [WELCOME, interruption], [WELCOME, Goodbye(reason="done")])
    assert reason == "done" and link.connections == 3 and seen.welcomes == 3 and len(seen.said) == 2
    assert [each for each in link.sent if each == "join"] == ["join"] * 3, "every session joins anew"


async def test_a_coordinator_that_stays_away_is_given_up_with_how_long_it_took() -> None:
    loop = asyncio.get_running_loop()
    begin = loop.time()
    with pytest.raises(TransportError, match=r"gave up after 0.15 s: is the coordinator running and reachable\?"):
        await run([broken()])
    assert 0.1 <= loop.time() - begin < 5.0


async def test_a_coordinator_that_accepts_and_says_nothing_is_given_up_too() -> None:
    # Every try takes longer than the longest pause: that alone must not look like having been a member.
    with pytest.raises(TransportError, match=r"no answer to the join for 0.05 s; gave up after 0.15 s"):
        await run([SILENT])


async def test_time_as_a_member_does_not_count_towards_giving_up() -> None:
    scripts: list[Script] = [[WELCOME, 0.1, broken()]] * 4
    reason, link, _ = await run(*scripts, [WELCOME, Goodbye(reason="done")])
    assert reason == "done" and link.connections == 5


@pytest.mark.parametrize(
    "error", [JoinRefused("another base model"), CertificateError("names another"), ProtocolError("malformed")]
)
async def test_what_retrying_cannot_mend_is_not_retried(error: FedcoreError) -> None:
    link = ScriptedLink([[error]])
    with pytest.raises(type(error), match=str(error)):
        await asyncio.wait_for(member(link, Watched()).run(), PATIENCE_S)
    assert link.connections == 1


async def test_anything_but_a_welcome_is_a_broken_protocol() -> None:
    with pytest.raises(ProtocolError, match="expected a welcome after the join, got RoundClosed"):
        await run([RoundClosed(round=1)])


async def test_pauses_double_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    real: Callable[[float], Any] = asyncio.sleep

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await real(0)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    await run(*([[broken()]] * 6), [WELCOME, Goodbye(reason="done")])
    assert [pause for pause in pauses if pause <= 0.01] == [0.002, 0.004, 0.008, 0.01, 0.01, 0.01]


async def test_the_lease_is_kept_while_nothing_happens() -> None:
    welcome = Welcome(session="s", labels=(), lease_s=0.03, keep_set="", targets=())
    _, link, _ = await run([welcome, 0.1, Goodbye(reason="done")])
    assert len([each for each in link.sent if isinstance(each, Heartbeat)]) >= 3


async def test_no_task_is_left_behind() -> None:
    before = asyncio.all_tasks()
    await run([WELCOME, None], [WELCOME, Goodbye(reason="done")])
    assert asyncio.all_tasks() == before


TWO, THREE = ("a:1", "b:1"), ("a:1", "b:1", "c:1")
HOME: Script = [WELCOME, Goodbye(reason="done")]


async def test_a_target_that_cannot_be_reached_is_left_for_the_next_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 60.0)
    reason, link, _ = await run([broken()], [broken()], HOME, targets=THREE)
    assert reason == "done" and link.tried == ["a:1", "b:1", "c:1"]


async def test_there_is_a_pause_after_every_pass_and_it_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    real: Callable[[float], Any] = asyncio.sleep

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        await real(0)

    monkeypatch.setattr(module.asyncio, "sleep", sleep)
    await run(*([[broken()]] * 7), HOME, targets=TWO)
    assert [pause for pause in pauses if pause <= 0.01] == [0.0, 0.002, 0.0, 0.004, 0.0, 0.008, 0.0]


async def test_a_target_whose_stream_broke_is_tried_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHORT_STAY_S", 0.01)
    for interruption in (broken(), None):
        reason, link, _ = await run([WELCOME, 0.02, interruption], [broken()], HOME, targets=THREE)
        assert reason == "done" and link.tried == ["a:1", "a:1", "b:1"]


async def test_a_seat_lost_at_once_is_none() -> None:
    _, link, _ = await run([WELCOME, None], [WELCOME, broken()], HOME, targets=TWO)
    assert link.tried == ["a:1", "b:1", "a:1"]


async def test_a_dead_target_that_swallows_everything_costs_seconds_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHORT_STAY_S", 0.01)
    monkeypatch.setattr(module, "AGAIN_S", 0.02)
    monkeypatch.setattr(Settings, "silence_s", 60.0)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    reason, link, seen = await run([WELCOME, 0.02, broken()], [SILENT], [SILENT], HOME, targets=THREE, reconnect_s=9.0)
    assert reason == "done" and link.tried == ["a:1", "a:1", "b:1", "c:1"]
    assert loop.time() - begin < 5.0
    assert "a:1: no answer to the join for 0.02 s; trying again" in seen.said
    assert "b:1: no answer to the join for 0.05 s; trying again" in seen.said


async def test_where_all_are_slow_each_gets_more_time_with_every_pass() -> None:
    _, _, seen = await run([SILENT], [SILENT], [SILENT], HOME, targets=TWO, reconnect_s=9.0)
    assert [words.split("for ")[1] for words in seen.said] == ["0.05 s; trying again"] * 3, "silence_s is the most"
    link = ScriptedLink([[SILENT], [SILENT], [SILENT], HOME], TWO, Settings(silence_s=0.08))
    seen = Watched()
    await asyncio.wait_for(member(link, seen, reconnect_s=9.0).run(), PATIENCE_S)
    assert [words.split("for ")[1].split(";")[0] for words in seen.said] == ["0.05 s", "0.05 s", "0.08 s"]


async def test_every_target_is_tried_before_giving_up() -> None:
    link = ScriptedLink([[broken()]], THREE)
    with pytest.raises(TransportError, match="gave up after 0 s"):
        await asyncio.wait_for(member(link, Watched(), reconnect_s=0.0).run(), PATIENCE_S)
    assert link.tried == list(THREE)


async def test_every_session_that_began_is_said_to_have_ended() -> None:
    link, seen, lost = ScriptedLink([[broken()], [WELCOME, broken()], [WELCOME, Goodbye(reason="over")]]), Watched(), []
    watched = replace(member(link, seen), on_lost=lambda: lost.append(seen.welcomes))
    assert await asyncio.wait_for(watched.run(), PATIENCE_S) == "over"
    assert lost == [1, 2], "a stream without a welcome was no session"
