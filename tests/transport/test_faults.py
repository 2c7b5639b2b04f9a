"""Broken, stalled and slow connections: transfers go on at the last good chunk, members move to another parent."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fedcore.transport.link
import fedcore.transport.parent_connection
from fedcore.core.codec.chain import encode
from fedcore.core.errors import TransportError
from fedcore.core.model.geometry import Geometry
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.values import BlobRef, Heartbeat, WireAssignment
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.models.checkpoint import fingerprint
from fedcore.storage.pki.authority import create_authority, issue
from fedcore.storage.pki.certificates import load_material
from fedcore.transport.link import Link
from fedcore.transport.retry import retrying
from tests.fake_device import FakeDevice, open_link
from tests.fault_proxy import FaultProxy, Way, proxying
from tests.tiny_run import PATIENCE_S, WIDE, Served, serving, small_update, until, write_model

MIB = 1 << 20
LARGE = WIDE | {"num_hidden_layers": 3, "hidden_size": 256, "intermediate_size": 1024}
OVERHEAD = 64 << 10  # bytes of connection set-up, headers and frames
RANK = 128
UPLOADS = (f"strategy.ranks=[{RANK}]", "run.rounds=1", "coordinator.min_devices=1")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Geometry]:
    folder = tmp_path_factory.mktemp("wide") / "model"
    return folder, write_model(folder, LARGE)


@pytest.fixture
async def served(model: tuple[Path, Geometry], tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path / "run", model[0], UPLOADS) as run:
        yield run


@pytest.fixture
async def proxies(served: Served) -> AsyncIterator[tuple[FaultProxy, FaultProxy]]:
    """Two ways to one coordinator: what a client sees of two parents that know the same."""
    async with proxying(served.address) as one, proxying(served.address) as other:
        yield one, other


async def weights(link: Link) -> BlobRef:
    """The largest file there is to fetch."""
    return max((await link.describe()).model_files, key=lambda ref: ref.size)


async def fetched(link: Link, ref: BlobRef, store: BlobStore) -> int:
    return await asyncio.wait_for(retrying(lambda: link.fetch(ref, store), tries=9, pause_s=0.01), PATIENCE_S)


async def test_a_download_cut_in_the_middle_brings_only_the_rest(
    proxies: tuple[FaultProxy, ...], tmp_path: Path
) -> None:
    proxy, store = proxies[0], BlobStore(tmp_path / "store")
    link = open_link(proxy.address)
    ref = await weights(link)
    assert ref.size > 8 * MIB
    proxy.cut(Way.DOWN, 5 * MIB)
    with pytest.raises(TransportError):
        await link.fetch(ref, store)
    held = store.partial_size(ref.id)
    assert held >= MIB and held % MIB == 0, "whole chunks are kept"
    proxy.carried.clear()
    assert await link.fetch(ref, store) == ref.size - held
    assert proxy.carried[Way.DOWN] <= ref.size - held + OVERHEAD
    assert len(store.read_bytes(ref.id)) == ref.size
    await link.close()


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 4 * MIB), min_size=1, max_size=6))
def test_however_often_a_download_is_cut_it_ends_and_nothing_kept_is_sent_again(
    model: tuple[Path, Geometry], tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    async def scenario(place: Path) -> None:
        async with serving(place / "run", model[0]) as served, proxying(served.address) as proxy:
            link, store = open_link(proxy.address), BlobStore(place / "store")
            ref = await weights(link)
            proxy.cut(Way.DOWN, *cuts)
            proxy.carried.clear()
            kept = 0
            while proxy.cuts < len(cuts) and not store.has(ref.id):
                before = proxy.carried[Way.DOWN]
                try:
                    received = await link.fetch(ref, store)
                except TransportError:
                    received = store.partial_size(ref.id) - kept
                assert received <= proxy.carried[Way.DOWN] - before + OVERHEAD
                assert store.has(ref.id) or store.partial_size(ref.id) >= kept, "what was kept stays"
                kept = ref.size if store.has(ref.id) else store.partial_size(ref.id)
            assert await fetched(link, ref, store) == ref.size - kept
            assert len(store.read_bytes(ref.id)) == ref.size
            await link.close()

    asyncio.run(scenario(tmp_path_factory.mktemp("cuts")))


def device_behind(target: str, model: tuple[Path, Geometry], place: Path) -> FakeDevice:
    mark = fingerprint(model[0])
    return FakeDevice(name="d0", target=target, mark=mark, geometry=model[1], place=place / "devices", inline=False)


def update_bytes(device: FakeDevice) -> int:
    """Size of the update that answers the device's first assignment."""
    keep_set = KeepSet.full(device.geometry)
    return len(encode(small_update(device.geometry, device.assignments[0], keep_set, device.name), "identity"))


def once(action: Callable[[], object]) -> Callable[[WireAssignment], Awaitable[None]]:
    """Do it before the first answer."""
    done = False

    async def hold(assignment: WireAssignment) -> None:
        nonlocal done
        if not done:
            action()
        done = True

    return hold


# A chunk counts once the coordinator has read it, so bytes take their time, and cuts lie between ends of chunks.
CUTS = [(5 * MIB // 2,), (MIB // 2, 5 * MIB // 2, 3 * MIB // 2)]


@pytest.mark.parametrize("cuts", CUTS, ids=["once", "again and again"])
async def test_an_upload_that_is_cut_goes_on_at_its_last_good_chunk(
    served: Served, proxies: tuple[FaultProxy, ...], model: tuple[Path, Geometry], tmp_path: Path, cuts: tuple[int, ...]
) -> None:
    proxy = proxies[0]
    device = device_behind(proxy.address, model, tmp_path)

    def arm() -> None:
        proxy.cut(Way.UP, *cuts)
        proxy.carried.clear()
        proxy.rate = 16.0 * MIB

    device.hold = once(arm)
    running = asyncio.create_task(device.run())
    assert (await served.summary())["rounds"][0]["accepted"] == 1
    await asyncio.wait_for(running, PATIENCE_S)
    total = update_bytes(device)
    assert total > 4 * MIB and proxy.cuts == len(cuts) and len(device.welcomes) == len(cuts) + 1
    (resent,) = device.sent  # of the try that came to its end
    kept = total - resent
    assert kept >= 2 * MIB and kept % MIB == 0, "it began at a chunk's edge, and nothing kept was sent again"
    assert proxy.carried[Way.UP] <= total + len(cuts) * (MIB + OVERHEAD) + OVERHEAD, "one chunk is lost per cut at most"


async def test_an_upload_goes_on_at_another_parent(
    served: Served, proxies: tuple[FaultProxy, ...], model: tuple[Path, Geometry], tmp_path: Path
) -> None:
    dying, sibling = proxies
    device = device_behind(f"{dying.address},{sibling.address}", model, tmp_path)
    begun = 0.0

    async def die_after(limit: int) -> None:
        nonlocal begun
        await until(lambda: dying.carried[Way.UP] > limit)
        await dying.die()
        begun = time.monotonic()

    killer: list[asyncio.Task[None]] = []
    device.hold = once(lambda: killer.append(asyncio.create_task(die_after(dying.carried[Way.UP] + 2 * MIB))))
    dying.rate = 8.0 * MIB
    running = asyncio.create_task(device.run())
    await until(lambda: len(device.welcomes) == 2)
    assert time.monotonic() - begun < 5.0, "far below a lease"
    assert (await served.summary())["rounds"][0]["accepted"] == 1
    await asyncio.wait_for(running, PATIENCE_S)
    (resent,) = device.sent
    assert resent < update_bytes(device), "what the coordinator had is not sent again"
    assert len(served.told("accepted", "d0")) == 1


async def test_a_member_leaves_a_parent_that_swallows_everything(
    served: Served,
    proxies: tuple[FaultProxy, ...],
    model: tuple[Path, Geometry],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beats = {"grpc.keepalive_time_ms": 400, "grpc.http2.ping_timeout_ms": 400}
    options = [(key, beats.get(key, value)) for key, value in fedcore.transport.link.CHANNEL_OPTIONS]
    monkeypatch.setattr(fedcore.transport.link, "CHANNEL_OPTIONS", options)
    monkeypatch.setattr(fedcore.transport.parent_connection, "AGAIN_S", 0.5)
    dead, sibling = proxies
    device = device_behind(f"{dead.address},{sibling.address}", model, tmp_path)
    begun: list[float] = []

    def stall() -> None:
        dead.stall()
        begun.append(time.monotonic())

    device.hold = once(stall)
    running = asyncio.create_task(device.run())
    await until(lambda: len(device.welcomes) == 2)
    assert time.monotonic() - begun[0] < 5.0
    assert device.link.target == sibling.address
    assert (await served.summary())["rounds"][0]["accepted"] == 1
    await asyncio.wait_for(running, PATIENCE_S)


async def test_a_stalled_transfer_ends_within_the_silence(proxies: tuple[FaultProxy, ...], tmp_path: Path) -> None:
    proxy = proxies[0]
    link, store = open_link(proxy.address, silence_s=0.5), BlobStore(tmp_path / "store")
    ref = await weights(link)
    proxy.rate = 16.0 * MIB
    fetch = asyncio.create_task(link.fetch(ref, store))
    await until(lambda: store.partial_size(ref.id) >= 2 * MIB)
    proxy.stall()
    begun = time.monotonic()
    with pytest.raises(TransportError, match=r"no answer for 0.5 s"):
        await fetch
    assert time.monotonic() - begun < 3.0
    held = store.partial_size(ref.id)
    proxy.stall(False)
    proxy.cut_now()
    assert await fetched(link, ref, store) == ref.size - held
    await link.close()


async def test_switching_ends_what_is_under_way_as_a_broken_transfer_and_the_rest_comes_from_the_next(
    proxies: tuple[FaultProxy, ...], tmp_path: Path
) -> None:
    one, other = proxies
    link, store = open_link(f"{one.address},{other.address}"), BlobStore(tmp_path / "store")
    ref = await weights(link)
    one.rate = 16.0 * MIB
    fetch = asyncio.create_task(link.fetch(ref, store))
    await until(lambda: store.partial_size(ref.id) >= 3 * MIB)
    one.stall()
    begun = time.monotonic()
    await link.switch()
    with pytest.raises(TransportError, match=f"{one.address}: "):
        await asyncio.wait_for(fetch, PATIENCE_S)
    assert time.monotonic() - begun < 1.0, "not only once the silence is over"
    held = store.partial_size(ref.id)
    assert link.target == other.address
    assert await link.fetch(ref, store) == ref.size - held < ref.size
    assert other.carried[Way.DOWN] <= ref.size - held + OVERHEAD
    await link.switch()
    assert link.target == one.address, "after the last comes the first"
    await link.close()


async def test_a_stream_that_is_switched_away_from_ends(proxies: tuple[FaultProxy, ...]) -> None:
    link = open_link(f"{proxies[0].address},{proxies[1].address}")
    async with link.connect() as stream:
        waiting = asyncio.create_task(stream.receive())
        await asyncio.sleep(0.05)
        await link.switch()
        with pytest.raises(TransportError):
            await asyncio.wait_for(waiting, PATIENCE_S)
        with pytest.raises(TransportError):
            await stream.send(Heartbeat())
    await link.close()


async def test_a_task_that_shall_stop_stops(proxies: tuple[FaultProxy, ...], tmp_path: Path) -> None:
    link, store = open_link(proxies[0].address), BlobStore(tmp_path / "store")
    ref = await weights(link)
    proxies[0].rate = 4.0 * MIB
    fetch = asyncio.create_task(link.fetch(ref, store))
    await until(lambda: store.partial_size(ref.id))
    fetch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(fetch, PATIENCE_S)
    await link.close()


async def test_those_preferred_come_first_and_each_once(proxies: tuple[FaultProxy, ...]) -> None:
    one, other = (each.address for each in proxies)
    link = open_link(f"{one},127.0.0.1:1")
    await link.prefer([other, one])
    assert link.targets == (other, one, "127.0.0.1:1") and link.target == other
    assert (await link.describe()).max_length == 8
    await link.prefer([])
    await link.prefer([other])
    assert link.targets == (other, one, "127.0.0.1:1") and proxies[1].connections == 1, "no new channel for nothing"
    await link.close()


async def test_a_first_word_is_waited_for_less_where_there_is_somebody_else(served: Served) -> None:
    async with proxying(served.address) as dead:
        dead.stall()
        link = open_link(f"{dead.address},{served.address}")
        assert link.contact_s == 5.0 < link.settings.silence_s
        link.settings = replace(link.settings, contact_s=0.3)
        begun = time.monotonic()
        with pytest.raises(TransportError):
            await link.describe()
        assert time.monotonic() - begun < 2.0
        await link.close()
    alone = open_link(served.address)
    assert alone.contact_s == alone.settings.silence_s
    await alone.close()


async def test_a_slow_and_late_link_carries_everything(
    served: Served, proxies: tuple[FaultProxy, ...], model: tuple[Path, Geometry], tmp_path: Path
) -> None:
    proxy = proxies[0]
    proxy.delay_s, proxy.rate = 0.002, 8.0 * MIB
    device = device_behind(proxy.address, model, tmp_path)
    running = asyncio.create_task(device.run())
    assert (await served.summary())["rounds"][0]["accepted"] == 1
    await asyncio.wait_for(running, PATIENCE_S)
    assert device.sent == [update_bytes(device)] and len(device.welcomes) == 1


async def test_a_transfer_under_tls_goes_on_too(model: tuple[Path, Geometry], tmp_path: Path) -> None:
    certs = tmp_path / "certs"
    create_authority(certs)
    issue(certs, "coordinator", kind="coordinator")
    issue(certs, "d0", kind="device")
    tls = load_material(certs, "coordinator")
    async with serving(tmp_path / "run", model[0], UPLOADS, tls=tls) as served, proxying(served.address) as proxy:
        link, store = open_link(proxy.address, load_material(certs, "d0")), BlobStore(tmp_path / "store")
        ref = await weights(link)
        proxy.cut(Way.DOWN, 5 * MIB)
        with pytest.raises(TransportError):
            await link.fetch(ref, store)
        held = store.partial_size(ref.id)
        assert held >= MIB and await fetched(link, ref, store) == ref.size - held
        await link.close()
