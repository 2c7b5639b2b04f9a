"""What the coordinator's events make of its metrics; served ones are in test_metrics_server.py."""

import re
from pathlib import Path
from typing import Any

import pytest

from fedcore.core.contract.protocols import Json
from fedcore.protos.tier_values import LeafOutcome
from fedcore.server.observe.memory import read_memory
from fedcore.server.observe.metrics import UPDATE_EVENTS, RunMetrics
from fedcore.server.run.records import relayed_record
from tests.tiny_run import PHASE_S, device_report

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "metrics.md"
ROW = re.compile(r"^\| `(fedcore_\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)


@pytest.fixture
def metrics() -> RunMetrics:
    return RunMetrics()


def value(metrics: RunMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def tell(metrics: RunMetrics, *events: tuple[str, str]) -> None:
    """Events of devices, as (kind, device)."""
    for kind, device in events:
        metrics.event(kind, {"device": device, "round": 1, "role": "device"})


def devices(metrics: RunMetrics) -> dict[str, float]:
    states = {state: value(metrics, "fedcore_devices", state=state) for state in ("idle", "in_round", "away", "lost")}
    return {state: number for state, number in states.items() if number}


def row(device: str = "a", **changes: Any) -> Json:
    seconds = {f"{phase}_s": 0.5 for phase in ("download", "prune", "train", "encode", "upload", "wait", "fold")}
    whole = {"device": device, "status": "accepted", "timing": "ok", "bytes_up": 10, "bytes_down": 20}
    return whole | seconds | changes


def test_every_metric_stands_in_the_page_with_its_type_and_labels(metrics: RunMetrics) -> None:
    told = {name: (kind, set(re.findall(r"`(\w+)`:", labels))) for name, kind, labels in ROW.findall(PAGE.read_text())}
    real: dict[str, tuple[str, set[str]]] = {}
    for family in metrics.registry.collect():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        real[name] = (family.type, labels)
    assert told == real


def test_every_value_of_a_label_is_told_and_there_from_the_beginning(metrics: RunMetrics) -> None:
    told: dict[str, set[str]] = {}
    for name, _, labels in ROW.findall(PAGE.read_text()):
        if labels.strip():
            told[name.removesuffix("_total")] = set(labels.strip().partition(": ")[2].split(", "))
    real: dict[str, set[str]] = {}
    for family in metrics.registry.collect():
        values = {value for each in family.samples for label, value in each.labels.items() if label != "le"}
        if values:
            real[family.name] = values
    assert told == real


def test_a_device_is_in_one_state_at_a_time(metrics: RunMetrics) -> None:
    tell(metrics, ("joined", "a"), ("joined", "b"))
    assert devices(metrics) == {"idle": 2}
    tell(metrics, ("pushed", "a"), ("pushed", "b"))
    assert devices(metrics) == {"in_round": 2}
    tell(metrics, ("accepted", "a"), ("left", "b"))
    assert devices(metrics) == {"idle": 1, "away": 1}
    metrics.rows([row("a"), row("b", status="lost", timing=None, bytes_up=None)])
    assert devices(metrics) == {"idle": 1, "lost": 1}
    tell(metrics, ("joined", "b"), ("pushed", "b"))
    assert devices(metrics) == {"idle": 1, "in_round": 1}


@pytest.mark.parametrize("kind", UPDATE_EVENTS)
def test_whatever_becomes_of_an_update_is_counted_and_ends_the_devices_work(kind: str, metrics: RunMetrics) -> None:
    tell(metrics, ("joined", "a"), ("pushed", "a"), (kind, "a"))
    assert value(metrics, "fedcore_updates_total", result=kind) == 1
    assert devices(metrics) == {"idle": 1}


def test_who_missed_the_deadline_is_idle_again_once_the_round_has_closed(metrics: RunMetrics) -> None:
    tell(metrics, ("joined", "a"), ("pushed", "a"))
    metrics.rows([row("a", status="missed_deadline", timing=None, bytes_up=None)])
    assert devices(metrics) == {"idle": 1}


def test_sessions_are_counted_by_role_and_a_newer_one_takes_the_seat(metrics: RunMetrics) -> None:
    for name, role in (("a", "device"), ("judge", "evaluator"), ("a", "device")):
        metrics.event("joined", {"device": name, "role": role})
    assert [value(metrics, "fedcore_sessions", role=role) for role in ("device", "evaluator", "edge")] == [1, 1, 0]
    for name, role in (("judge", "evaluator"), ("nobody", "device"), ("a", "edge")):
        metrics.event("left", {"device": name, "role": role})
    assert [value(metrics, "fedcore_sessions", role=role) for role in ("device", "evaluator", "edge")] == [1, 0, 0]
    assert devices(metrics) == {"idle": 1}, "an evaluator is no device"


def test_rounds_are_counted_timed_and_numbered(metrics: RunMetrics) -> None:
    metrics.event("started", {"next_round": 4, "pid": 1})
    assert value(metrics, "fedcore_round") == 4
    tell(metrics, ("pushed", "a"))
    assert value(metrics, "fedcore_round") == 1
    metrics.event("round_closed", {"void": False, "duration_s": 0.75})
    metrics.event("round_closed", {"void": True, "duration_s": 30.0})
    metrics.event("committed", {"round": 1, "close_s": 0.125})
    metrics.event("started", {"next_round": None, "pid": 1})
    metrics.event("finished", {"next_round": None})
    assert [value(metrics, "fedcore_rounds_total", result=result) for result in ("closed", "void")] == [1, 1]
    assert value(metrics, "fedcore_round_seconds_sum") == 30.75
    assert value(metrics, "fedcore_round_seconds_bucket", le="1.0") == 1
    assert value(metrics, "fedcore_phase_seconds_sum", phase="close") == 0.125


def test_phases_are_of_those_that_fit_and_bytes_of_all_that_counted(metrics: RunMetrics) -> None:
    metrics.rows([row("a"), row("b", timing="clock", train_s=9.0), row("c", status="lost", timing=None, bytes_up=None)])
    metrics.event("clock", {"device": "b"})
    assert value(metrics, "fedcore_phase_seconds_count", phase="train") == 1
    assert value(metrics, "fedcore_phase_seconds_sum", phase="train") == 0.5
    assert value(metrics, "fedcore_update_bytes_total", direction="up") == 20
    assert value(metrics, "fedcore_update_bytes_total", direction="down") == 40
    assert value(metrics, "fedcore_clock_faults_total") == 1


def test_an_edge_tells_of_the_devices_below_it_as_a_coordinator_does(metrics: RunMetrics) -> None:
    report = device_report()
    counted = LeafOutcome(device="a", counted=True, time_s=1.0, report=report, fold_s=0.25)
    metrics.rows([relayed_record(counted), relayed_record(LeafOutcome(device="b", counted=False, time_s=0.0))])
    assert value(metrics, "fedcore_phase_seconds_sum", phase="wait") == 1.0 - 5 * PHASE_S
    assert value(metrics, "fedcore_phase_seconds_sum", phase="fold") == 0.25
    assert value(metrics, "fedcore_phase_seconds_count", phase="train") == 1
    assert value(metrics, "fedcore_update_bytes_total", direction="up") == report.bytes_up


def test_a_newcomer_that_does_not_fit_is_counted(metrics: RunMetrics) -> None:
    metrics.event("refused", {"device": "a", "message": "another model"})
    assert value(metrics, "fedcore_joins_refused_total") == 1 and devices(metrics) == {}


def test_bytes_add_up_by_direction(metrics: RunMetrics) -> None:
    for direction, size in (("up", 3), ("down", 5), ("up", 4)):
        metrics.moved(direction, size)
    assert [value(metrics, "fedcore_bytes_total", direction=each) for each in ("up", "down")] == [7, 5]


def test_memory_is_read_at_every_scrape_and_its_peak_is_no_less(metrics: RunMetrics) -> None:
    now, peak = (value(metrics, f"fedcore_resident_memory{part}_bytes") for part in ("", "_peak"))
    assert now is not None and peak is not None and 1 << 20 < now <= peak


def test_where_the_system_has_no_proc_the_peak_is_told_all_the_same(tmp_path: Path) -> None:
    memory = read_memory(tmp_path / "none")
    assert memory.resident_bytes is None and memory.peak_bytes > 1 << 20


def test_two_runs_in_one_process_do_not_share_a_figure(metrics: RunMetrics) -> None:
    RunMetrics().event("refused", {"device": "a"})
    assert value(metrics, "fedcore_joins_refused_total") == 0
