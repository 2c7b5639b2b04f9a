"""Scrapes over real HTTP: of a run under way and at its end, and of addresses nobody can listen at."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fedcore.core.errors import ConfigError, RunError
from fedcore.protos.values import WireAssignment
from fedcore.server.observe.metrics import RunMetrics
from fedcore.server.observe.metrics_server import MetricsServer
from tests.fake_device import Fault
from tests.server.conftest import TinyModel
from tests.tiny_run import PATIENCE_S, PHASE_S, serving

Together = Callable[..., Any]
Samples = dict[tuple[str, str], float]


async def scrape(url: str) -> Samples:
    """Samples by name and the value of their label, if any, but for buckets."""

    def fetch() -> str:
        with urlopen(url, timeout=PATIENCE_S) as response:
            assert response.headers["Content-Type"].startswith("text/plain")
            return str(response.read().decode())

    families = text_string_to_metric_families(await asyncio.to_thread(fetch))
    samples = (each for family in families for each in family.samples if "le" not in each.labels)
    return {(each.name, "".join(each.labels.values())): each.value for each in samples}


async def test_a_scraped_run_tells_what_its_summary_tells(tiny: TinyModel, tmp_path: Path, together: Together) -> None:
    metrics = RunMetrics()
    with MetricsServer(metrics, "127.0.0.1:0") as server:
        async with serving(tmp_path / "run", tiny.folder, metrics=metrics) as served:
            devices = [tiny.device(served, "left", tmp_path), tiny.device(served, "right", tmp_path, inline=False)]
            await together(*devices)
            summary = await served.summary()
        found = await scrape(server.url)
    totals = summary["totals"]
    assert found["fedcore_rounds_total", "closed"] == totals["rounds"] == 2 and found["fedcore_round", ""] == 2
    assert found["fedcore_rounds_total", "void"] == totals["void_rounds"] == 0
    assert found["fedcore_round_seconds_sum", ""] == pytest.approx(totals["duration_s"])
    assert found["fedcore_updates_total", "accepted"] == sum(each["accepted"] for each in summary["rounds"]) == 4
    assert found["fedcore_update_bytes_total", "up"] == totals["bytes_up"] == 4 * 50
    assert found["fedcore_update_bytes_total", "down"] == totals["bytes_down"] == 4 * 100
    assert found["fedcore_phase_seconds_count", "upload"] == 4
    assert found["fedcore_phase_seconds_sum", "upload"] == pytest.approx(4 * PHASE_S)
    rows = [row for each in summary["rounds"] for row in each["results"]]
    for phase in ("wait", "fold"):
        assert found["fedcore_phase_seconds_sum", phase] == pytest.approx(sum(row[f"{phase}_s"] for row in rows))
    closes = [each["close_s"] for each in summary["rounds"]]
    assert found["fedcore_phase_seconds_sum", "close"] == pytest.approx(sum(closes)) and min(closes) > 0
    uploaded = sum(devices[1].sent)
    assert uploaded > 0 and found["fedcore_bytes_total", "up"] > uploaded
    assert sum(found["fedcore_devices", state] for state in ("idle", "away")) == 2
    assert 0 < found["fedcore_resident_memory_bytes", ""] <= found["fedcore_resident_memory_peak_bytes", ""]


async def test_a_scrape_in_the_middle_of_a_round_shows_it_and_holds_nobody_up(
    tiny: TinyModel, tmp_path: Path, together: Together
) -> None:
    working, go_on = asyncio.Event(), asyncio.Event()

    async def hold(assignment: WireAssignment) -> None:
        working.set()
        await go_on.wait()

    metrics = RunMetrics()
    with MetricsServer(metrics, "127.0.0.1:0") as server:
        async with serving(tmp_path / "run", tiny.folder, ["run.rounds=1"], metrics=metrics) as served:
            left = tiny.device(served, "left", tmp_path, hold=hold)
            right = tiny.device(served, "right", tmp_path)
            over = asyncio.create_task(together(left, right))
            await asyncio.wait_for(working.wait(), PATIENCE_S)
            await served.until("accepted")
            found = await scrape(server.url)
            assert (found["fedcore_devices", "in_round"], found["fedcore_devices", "idle"]) == (1, 1)
            assert found["fedcore_sessions", "device"] == 2 and found["fedcore_rounds_total", "closed"] == 0
            go_on.set()
            await over
            await served.summary()


async def test_refusals_are_counted(tiny: TinyModel, tmp_path: Path, together: Together) -> None:
    metrics = RunMetrics()
    with MetricsServer(metrics, "127.0.0.1:0") as server:
        async with serving(tmp_path / "run", tiny.folder, ["run.rounds=1"], metrics=metrics) as served:
            bad = tiny.device(served, "bad", tmp_path, fault=Fault.NAN)
            await together(bad, tiny.device(served, "good", tmp_path))
            await served.summary()
        found = await scrape(server.url)
    assert (found["fedcore_updates_total", "rejected"], found["fedcore_updates_total", "accepted"]) == (1, 1)


async def test_the_event_loop_goes_on_while_a_scraper_dawdles() -> None:
    with MetricsServer(RunMetrics(), "127.0.0.1:0") as server:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        with socket.create_connection(("127.0.0.1", port)) as slow:
            slow.sendall(b"GET /metrics HTTP/1.1\r\n")  # and no more
            begin = time.monotonic()
            found = await scrape(server.url)
            assert found and time.monotonic() - begin < PATIENCE_S / 2


def test_a_closed_server_frees_its_port_and_its_thread() -> None:
    before = threading.active_count()
    server = MetricsServer(RunMetrics(), "127.0.0.1:0")
    server.close()
    server.close()
    assert threading.active_count() == before
    again = MetricsServer(RunMetrics(), server.url.removeprefix("http://").removesuffix("/metrics"))
    again.close()


def test_a_port_in_use_is_named() -> None:
    with MetricsServer(RunMetrics(), "127.0.0.1:0") as server:
        taken = server.url.removeprefix("http://").removesuffix("/metrics")
        with pytest.raises(RunError, match=f"cannot serve metrics on {taken}: .*in use; choose another --metrics"):
            MetricsServer(RunMetrics(), taken)


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(RunError, match=r"cannot serve metrics on 192\.0\.2\.1:0: .*choose another"):
        MetricsServer(RunMetrics(), "192.0.2.1:0")


@pytest.mark.parametrize("address", ["9464", "host", "host:", ":9464", "host:port", "host:65536", "a b:1"])
def test_a_malformed_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match=r"--metrics: expected HOST:PORT, for example 127\.0\.0\.1:9464, got"):
        MetricsServer(RunMetrics(), address)
