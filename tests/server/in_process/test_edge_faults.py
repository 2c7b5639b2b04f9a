"""Edges whose lines break, over real gRPC: every round closes, every device counts once, and nothing is left behind."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedcore.server.edge import process as edge_process
from fedcore.server.edge.edge import Edge
from fedcore.storage.blobs.store import BlobStore
from tests.fault_proxy import FaultProxy, Way, proxying
from tests.server.conftest import TinyModel
from tests.server.edge.test_edge import NAMES, SETTINGS, flat, global_hash
from tests.tiny_edge import edging
from tests.tiny_run import PATIENCE_S, Served, serving, until

Together = Callable[..., Any]


def counted_once(served: Served, rounds: int, names: tuple[str, ...] = NAMES) -> bool:
    accepted = [(event["device"], event["round"]) for event in served.events("accepted")]
    return sorted(accepted) == sorted((name, number + 1) for name in names for number in range(rounds))


async def heal(proxy: FaultProxy, after_s: float) -> None:
    await asyncio.sleep(after_s)
    proxy.refusing = False
    proxy.stall(False)
    proxy.cut_now()


@pytest.mark.parametrize("fault", ["the partial is swallowed", "the partial is cut", "the answer is cut"])
async def test_a_line_that_breaks_around_a_partial_costs_a_reconnect(
    fault: str, tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    expected = await flat(tiny, tmp_path, together, SETTINGS)
    async with (
        serving(tmp_path / "tree", tiny.folder, SETTINGS) as served,
        proxying(served.address) as proxy,
        edging(tmp_path, "north", [proxy.address]) as north,
    ):
        healing: list[asyncio.Task[None]] = []

        async def trip(work: Any) -> None:
            if work.round != 2:
                return
            if fault == "the partial is swallowed":
                proxy.stall()
                healing.append(asyncio.create_task(heal(proxy, 0.4)))
            else:
                proxy.cut(Way.UP if fault == "the partial is cut" else Way.DOWN, 0)

        last = tiny.device(served, NAMES[0], tmp_path / "devices", hold=trip)
        devices = [last, *(tiny.device(served, name, tmp_path / "devices") for name in NAMES[1:])]
        for device in devices:
            device.lead_to(north.address)
        await together(*devices)
        await served.summary()
        assert global_hash(served) == expected and counted_once(served, 3)
        assert len([event for event in served.events("joined") if event["role"] == "edge"]) == 2, "it came back"
        assert await asyncio.wait_for(north.task, PATIENCE_S) == "the run has finished"
        await asyncio.gather(*healing)


async def test_devices_of_an_edge_that_lost_its_upstream_move_on(
    tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    expected = await flat(tiny, tmp_path, together, SETTINGS)
    settings = [*SETTINGS, "coordinator.lease_s=4.0"]
    async with (
        serving(tmp_path / "tree", tiny.folder, settings) as served,
        proxying(served.address) as proxy,
        edging(tmp_path, "north", [proxy.address]) as north,
    ):

        async def trip(work: Any) -> None:
            if work.round == 2 and not proxy.refusing:
                proxy.refusing = True
                proxy.cut_now()

        devices = [tiny.device(served, name, tmp_path / "devices", hold=trip) for name in NAMES]
        for device in devices:
            device.lead_to(north.address, served.address)
        await together(*devices)
        await served.summary()
        assert global_hash(served) == expected and counted_once(served, 3)
        assert "the tier above stays away; devices are sent on" in north.said
        via = {event.get("via", "") for event in served.events("joined") if event["role"] == "device"}
        assert via == {"north", ""}


async def test_leases_below_are_watched_again_after_the_upstream_came_back(tiny: TinyModel, tmp_path: Path) -> None:
    settings = ["run.rounds=1", "coordinator.min_devices=2", "coordinator.quorum=0.5", "coordinator.lease_s=0.9"]
    async with (
        serving(tmp_path / "run", tiny.folder, settings) as served,
        proxying(served.address) as proxy,
        edging(tmp_path, "north", [proxy.address]) as north,
    ):
        await served.until("joined")
        await asyncio.sleep(0.5)  # the welcome is on its way: cut before it, the edge would still be arriving
        proxy.refusing = True
        proxy.cut_now()
        # said after a third of a lease, on a busy machine later
        await until(lambda: "the tier above stays away; devices are sent on" in north.said)
        proxy.refusing = False
        mute, good = tiny.device(served, "mute", tmp_path), tiny.device(served, "good", tmp_path)
        mute.lead_to(north.address)
        stream = mute.link.connect()
        await stream.send(await mute.join())  # and no word more
        await asyncio.wait_for(good.run(), PATIENCE_S)
        summary = await served.summary()
        await mute.link.close()
    assert {row["device"]: row["status"] for row in summary["rounds"][0]["results"]} == {
        "good": "accepted",
        "mute": "lost",
    }
    assert summary["rounds"][0]["duration_s"] < 4.0


async def test_devices_stay_below_their_edge_while_the_coordinator_is_resumed(
    tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    settings = [*SETTINGS, "coordinator.lease_s=12.0"]
    expected = await flat(tiny, tmp_path, together, settings)
    async with proxying("127.0.0.1:1") as proxy:
        async with serving(tmp_path / "tree", tiny.folder, settings) as served:
            proxy.target = served.address
            slow = asyncio.Event()

            async def hold(work: Any) -> None:
                if work.round == 2:
                    await slow.wait()

            edge = edging(tmp_path, "north", [proxy.address], reconnect_s=PATIENCE_S)
            north = await edge.__aenter__()
            devices = [tiny.device(served, name, tmp_path / "devices", hold=hold) for name in NAMES]
            for device in devices:
                device.lead_to(north.address)
            running = asyncio.ensure_future(together(*devices))
            await served.until("pushed", 2 * len(NAMES))
            proxy.refusing = True  # nobody hears what a dying coordinator says
            proxy.cut_now()
        async with serving(tmp_path / "tree", tiny.folder, settings, resume=True) as resumed:
            slow.set()
            proxy.target, proxy.refusing = resumed.address, False
            await running
            await resumed.summary()
            assert global_hash(resumed) == expected
            assert [len(device.welcomes) for device in devices] == [1] * len(NAMES), "nobody had to join again"
            assert await asyncio.wait_for(north.task, PATIENCE_S) == "the run has finished"
        await edge.__aexit__(None, None, None)


async def test_an_edge_that_comes_back_under_its_name_goes_on(
    tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    expected = await flat(tiny, tmp_path, together, SETTINGS)
    async with serving(tmp_path / "tree", tiny.folder, SETTINGS) as served, proxying("127.0.0.1:1") as door:
        slow = asyncio.Event()

        async def hold(work: Any) -> None:
            if work.round == 2:
                await slow.wait()

        async with edging(tmp_path, "north", [served.address]) as first:
            door.target = first.address
            devices = [tiny.device(served, name, tmp_path / "devices", hold=hold) for name in NAMES[:1]]
            devices += [tiny.device(served, name, tmp_path / "devices") for name in NAMES[1:]]
            for device in devices:
                device.lead_to(door.address)
            running = asyncio.ensure_future(together(*devices))
            await served.until("pushed", 2 * len(NAMES))
            await asyncio.sleep(0.2)  # the others' updates are at the edge, unsent
            await first.kill()
        async with edging(tmp_path, "north", [served.address]) as second:
            door.target = second.address
            slow.set()
            await running
            await served.summary()
            assert global_hash(served) == expected and counted_once(served, 3)
            assert await asyncio.wait_for(second.task, PATIENCE_S) == "the run has finished"


async def test_a_large_partial_goes_on_where_the_uplink_broke(
    wide: TinyModel, tmp_path: Path, together: Together
) -> None:
    settings = [*SETTINGS, "strategy.ranks=[64]", "run.rounds=1"]
    expected = await flat(wide, tmp_path, together, settings, inline=False)
    async with (
        serving(tmp_path / "tree", wide.folder, settings) as served,
        proxying(served.address) as proxy,
        edging(tmp_path, "north", [proxy.address]) as north,
    ):
        tripped: list[int] = []

        async def trip(work: Any) -> None:
            tripped.append(proxy.carried[Way.UP])
            if len(tripped) == len(NAMES):
                proxy.cut(Way.UP, 1_100_000)  # the partial has 1.18 MB, its first chunk 1 MiB

        devices = [wide.device(served, name, tmp_path / "devices", inline=False, hold=trip) for name in NAMES]
        for device in devices:
            device.lead_to(north.address)
        await together(*devices)
        await served.summary()
        assert global_hash(served) == expected and counted_once(served, 1)
        sent = proxy.carried[Way.UP] - tripped[-1]
        assert proxy.cuts == 1 and 1_180_000 < sent < 1_600_000, sent
        assert served.events("rejected") == []


async def test_a_device_that_moves_to_another_edge_and_back_counts_once(
    tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    expected = await flat(tiny, tmp_path, together, SETTINGS)
    async with (
        serving(tmp_path / "tree", tiny.folder, SETTINGS) as served,
        edging(tmp_path, "north", [served.address]) as north,
        edging(tmp_path, "south", [served.address]) as south,
    ):
        await asyncio.sleep(0)
        async with proxying(north.address) as left, proxying(south.address) as right:
            moves = iter([left, right, None, left, right, None])

            async def move(work: Any) -> None:
                proxy = next(moves, None)
                if work.round <= 2 and proxy is not None:
                    proxy.cut_now()

            ada = tiny.device(served, "ada", tmp_path / "devices", hold=move)
            ada.lead_to(left.address, right.address)
            others = [tiny.device(served, name, tmp_path / "devices") for name in NAMES[1:]]
            for device, parent in zip(others, (north, south, served), strict=True):
                device.lead_to(parent.address)
            await together(ada, *others)
            await served.summary()
        assert global_hash(served) == expected and counted_once(served, 3)
        via = [event["via"] for event in served.events("joined") if event["device"] == "ada"]
        assert len(via) >= 3 and set(via) == {"north", "south"}


async def test_many_rounds_leave_nothing_behind(
    tiny: TinyModel, tmp_path: Path, together: Together, monkeypatch: pytest.MonkeyPatch
) -> None:
    edges: list[Edge] = []

    class Watched(Edge):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            edges.append(self)

    monkeypatch.setattr(edge_process, "Edge", Watched)
    settings = ["run.rounds=30", "coordinator.min_devices=3", "strategy.name=fedspine", "strategy.ranks=[1, 2]"]
    settings += ["strategy.target_sparsity=0.5", "strategy.warmup_rounds=1", "training.codec=bf16"]
    left = BlobStore(tmp_path / "north" / "blobs").put_bytes(b"of an earlier life")
    async with (
        serving(tmp_path / "run", tiny.folder, settings) as served,
        edging(tmp_path, "north", [served.address]) as north,
    ):
        assert edges[0].membership.sessions.find("ada") is None
        devices = [tiny.device(served, name, tmp_path / "devices", inline=name == "bob") for name in NAMES[:3]]
        for device in devices:
            device.lead_to(north.address)
        sizes: list[int] = []

        async def look(work: Any) -> None:
            sizes.append(len(BlobStore(tmp_path / "north" / "blobs").names()))

        devices[0].hold = look
        await together(*devices)
        summary = await served.summary()
        await asyncio.wait_for(north.task, PATIENCE_S)
    assert summary["totals"]["rounds"] == 30 and summary["totals"]["void_rounds"] == 0
    (edge,) = edges
    assert len(sizes) == 30 and max(sizes) <= 12, sizes
    assert left not in BlobStore(tmp_path / "north" / "blobs").names()
    rounds = edge._rounds
    assert len(edge._cache._refs) <= 3 + 2 * 4 and not edge._cache._transfers
    assert not rounds._early_partials and not rounds._submissions._open and not rounds._submissions._times_s
    assert len(rounds.assignments) <= 3 and len(rounds.machine.devices) <= 3 and not edge._uplink._answers
