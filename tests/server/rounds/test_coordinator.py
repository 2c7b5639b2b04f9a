"""Who may join a run, who may not, and the words for it: over real gRPC, against a coordinator that goes on."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fedcore.server.serve as module
from fedcore.core.errors import ConfigError, FedcoreError, JoinRefused, ProtocolError
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.protos.v1 import device_pb2, fleet_pb2
from fedcore.protos.values import Goodbye, Heartbeat, Join, Welcome
from fedcore.transport.link import Link
from tests.fake_device import open_link
from tests.server.conftest import TinyModel
from tests.tiny_run import PATIENCE_S, Served, serving

Change = Callable[[Join], Join]
Together = Callable[..., Any]


@pytest.fixture
async def served(tiny: TinyModel, tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path / "run", tiny.folder, ["strategy.ranks=[1, 2]"]) as run:
        yield run


@pytest.fixture
async def link(served: Served) -> AsyncIterator[Link]:
    opened = open_link(served.address)
    yield opened
    await opened.close()


async def answer(link: Link, join: Join) -> Any:
    """Send a join on a new stream and return the first answer."""
    async with link.connect() as stream:
        await stream.send(join)
        return await asyncio.wait_for(stream.receive(), PATIENCE_S)


def profile_of(**changes: Any) -> Change:
    def change(join: Join) -> Join:
        assert join.profile is not None
        return replace(join, profile=replace(join.profile, **changes))

    return change


REFUSED: dict[str, tuple[Change, type[FedcoreError], tuple[str, ...]]] = {
    "another protocol": (
        lambda join: replace(join, protocol_min=2, protocol_max=3),
        JoinRefused,
        ("speaks protocol 2-3", "this coordinator 1", "install the same fedcore version"),
    ),
    "another length": (
        lambda join: replace(join, max_length=9),
        JoinRefused,
        ("cuts texts at 9 tokens", "this run at 8"),
    ),
    "a foreign label": (
        lambda join: replace(join, labels=("a", "grün")),
        JoinRefused,
        ("['grün']", "['a', 'b']", "correct the rows"),
    ),
    "labels as long as texts": (
        lambda join: replace(join, labels=tuple(f"{number} " + "long text " * 3000 for number in range(9))),
        JoinRefused,
        ("has rows labelled", "outside the agreed labels"),
    ),
    "too little memory": (
        profile_of(memory_mb=1e-6),
        JoinRefused,
        ("training needs", "MiB", "raise memory_mb"),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_a_device_that_does_not_fit_is_refused_with_the_difference(
    case: str, served: Served, link: Link, tiny: TinyModel, tmp_path: Path
) -> None:
    change, kind, words = REFUSED[case]
    device = tiny.device(served, "odd", tmp_path, change=change)
    with pytest.raises(kind) as caught:
        await answer(link, await device.join())
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) <= 1000
    (told,) = served.told("refused", "odd")
    assert str(caught.value).startswith(told["message"][:400])
    assert isinstance(await answer(link, await tiny.device(served, "fine", tmp_path).join()), Welcome)


@pytest.mark.parametrize("part", ["tensors", "config", "tokenizer"])
async def test_another_base_model_is_refused_with_both_hashes(
    part: str, served: Served, link: Link, tiny: TinyModel, tmp_path: Path
) -> None:
    theirs: Fingerprint = replace(tiny.mark, **{part: "f" * 64})
    device = tiny.device(served, "odd", tmp_path, change=lambda join: replace(join, fingerprint=theirs))
    with pytest.raises(JoinRefused) as caught:
        await answer(link, await device.join())
    ours = getattr(tiny.mark, part)[:16]
    assert f"{part} {ours} here, {'f' * 16} there" in str(caught.value)
    assert "join without --model to fetch it" in str(caught.value)


async def test_a_device_without_a_row_is_refused(served: Served, link: Link) -> None:
    profile = device_pb2.DeviceProfile(name="empty", device_class="tiny", num_examples=0, slowdown=1.0)
    join = device_pb2.JoinRequest(protocol_min=1, protocol_max=1, role=device_pb2.ROLE_DEVICE, profile=profile)
    with pytest.raises(ConfigError, match="device empty has no training row; give it at least one"):
        await _first_answer(link, fleet_pb2.ConnectRequest(join=join))


async def test_a_name_that_is_none_is_refused(served: Served, link: Link) -> None:
    profile = device_pb2.DeviceProfile(name="Not a Name")
    join = device_pb2.JoinRequest(protocol_min=1, protocol_max=1, role=device_pb2.ROLE_EVALUATOR, profile=profile)
    with pytest.raises(ConfigError, match="'Not a Name': expected 1-63 characters"):
        await _first_answer(link, fleet_pb2.ConnectRequest(join=join))


async def test_a_stream_that_begins_with_something_else_is_refused(served: Served, link: Link) -> None:
    async with link.connect() as stream:
        await stream.send(Heartbeat())
        with pytest.raises(ProtocolError, match="must begin with a join; update the client"):
            await asyncio.wait_for(stream.receive(), PATIENCE_S)
    with pytest.raises(ProtocolError, match="unknown kind"):
        await _first_answer(link, fleet_pb2.ConnectRequest())


async def test_a_malformed_message_ends_its_stream_and_no_other(
    served: Served, link: Link, tiny: TinyModel, tmp_path: Path
) -> None:
    async with link.connect() as stream:
        await stream.send(await tiny.device(served, "odd", tmp_path).join())
        assert isinstance(await asyncio.wait_for(stream.receive(), PATIENCE_S), Welcome)
        await link._within(stream._call.write(fleet_pb2.ConnectRequest()))
        with pytest.raises(ProtocolError, match="unknown kind; update the coordinator"):
            await asyncio.wait_for(stream.receive(), PATIENCE_S)
    assert [each["device"] for each in await served.until("left")] == ["odd"]


async def test_a_stale_session_is_refused_and_a_newer_one_fences_the_older(
    served: Served, link: Link, tiny: TinyModel, tmp_path: Path
) -> None:
    device = tiny.device(served, "twice", tmp_path)
    first, second = await device.join(), await device.join()
    async with link.connect() as older, link.connect() as newer:
        await older.send(first)
        assert isinstance(await asyncio.wait_for(older.receive(), PATIENCE_S), Welcome)
        await newer.send(second)
        assert isinstance(await asyncio.wait_for(newer.receive(), PATIENCE_S), Welcome)
        assert await asyncio.wait_for(older.receive(), PATIENCE_S) is None, "the older stream is closed"
        with pytest.raises(JoinRefused, match="twice: a newer session of this device is known; this one is stale"):
            await answer(link, first)


async def test_two_devices_of_one_name_are_told_apart(
    served: Served, link: Link, tiny: TinyModel, tmp_path: Path
) -> None:
    device = tiny.device(served, "same", tmp_path)
    other = replace(await device.join(), device_uuid="another")
    async with link.connect() as stream:
        await stream.send(await device.join())
        assert isinstance(await asyncio.wait_for(stream.receive(), PATIENCE_S), Welcome)
        with pytest.raises(JoinRefused, match="another device named same is connected; give every device its own name"):
            await answer(link, other)
    await served.until("left")
    assert isinstance(await answer(link, other), Welcome), "a device that lost its state folder may take its place"


async def test_the_first_shard_fixes_the_labels_and_a_device_with_one_class_joins(
    tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    async with serving(tmp_path / "run", tiny.folder, ["data.labels=[]", "run.rounds=1"]) as served:
        link = open_link(served.address)
        with pytest.raises(JoinRefused) as caught:
            await answer(link, await tiny.device(served, "single", tmp_path, labels=("b",)).join())
        assert "only the labels ['b']" in str(caught.value) and "--set 'data.labels=" in str(caught.value)
        await link.close()
        first = tiny.device(served, "first", tmp_path, labels=("b", "a", "c"))
        running = asyncio.ensure_future(first.run())
        await served.until("joined")
        one_row = tiny.device(served, "one-class", tmp_path, labels=("b",), num_examples=1)
        foreign = tiny.device(served, "foreign", tmp_path, labels=("a", "d"))
        with pytest.raises(JoinRefused, match=r"labelled \['d'\]"):
            await foreign.run()
        await together(one_row)
        summary = await served.summary()
        await running
    assert first.welcomes[0].labels == one_row.welcomes[0].labels == ("a", "b", "c")
    assert summary["rounds"][0]["accepted"] == 2
    ledger = served.ledger()
    assert ledger.load().labels == ("a", "b", "c"), "a resumed run keeps them"
    ledger.close()


async def test_a_join_while_the_engine_is_being_made_waits_for_it(
    tiny: TinyModel, tmp_path: Path, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    real = module.make_engine

    def slow(*arguments: Any) -> Any:
        assert gate.wait(PATIENCE_S)
        return real(*arguments)

    monkeypatch.setattr(module, "make_engine", slow)
    async with serving(tmp_path / "run", tiny.folder, ["run.rounds=1"]) as served:
        devices = [tiny.device(served, name, tmp_path) for name in ("early", "bird")]
        running = [asyncio.ensure_future(device.run()) for device in devices]
        await asyncio.sleep(0.1)  # time for both joins to arrive
        assert not served.events("joined")
        gate.set()
        assert await asyncio.wait_for(asyncio.gather(*running), PATIENCE_S) == ["the run has finished"] * 2
        await served.summary()
    assert [device.epoch for device in devices] == [1, 1]


async def test_devices_hear_why_the_run_ends(served: Served, tiny: TinyModel, tmp_path: Path) -> None:
    device = tiny.device(served, "lone", tmp_path)
    heard: list[Any] = []
    async with device.link.connect() as stream:
        await stream.send(await device.join())
        heard.append(await asyncio.wait_for(stream.receive(), PATIENCE_S))
        served.stop()
        heard.append(await asyncio.wait_for(stream.receive(), PATIENCE_S))
    await device.link.close()
    assert isinstance(heard[0], Welcome) and heard[1] == Goodbye(reason="the coordinator stops")


async def _first_answer(link: Link, message: Any) -> Any:
    async with link.connect() as stream:
        await link._within(stream._call.write(message))
        return await asyncio.wait_for(stream.receive(), PATIENCE_S)
