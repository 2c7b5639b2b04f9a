"""Records of devices and rounds: stable keys, exact means, and no figure that a device did not report."""

from dataclasses import replace
from typing import Any

from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.outcome import PHASES, Outcome, Status
from fedcore.core.contract.protocols import AggregateReport, Json
from fedcore.core.rounds.result import MemberResult, RoundResult
from fedcore.server.run.records import clock_events, energy_of, outcome_record, round_record
from tests.tiny_run import PHASE_S, device_report

ROW_KEYS = ["round", "device", "class", "status", "sparsity", "rank", "reward", "weight", "time_s"]
ROW_KEYS += [*(f"{phase}_s" for phase in PHASES), "bytes_down", "bytes_up", "loss_before", "loss_after"]
ROW_KEYS += ["train_loss", "peak_memory_mb", "steps", "wait_s", "fold_s", "overrun_s", "timing", "network"]
ROUND_KEYS = ["round", "void", "devices", "accepted", "duration_s", "phase_s", "bytes_down", "bytes_up", "weight"]
ROUND_KEYS += ["dropped_energy", "clock_faults"]


def outcome(device: str, *, counted: bool = True) -> Outcome:
    return Outcome(
        device=device,
        device_class="tiny",
        round=1,
        arm=Arm(sparsity=0.25, rank=4),
        status=Status.ACCEPTED if counted else Status.LOST,
        time_s=2.0,
        report=device_report() if counted else None,
        fold_s=0.125 if counted else None,
    )


def closed(void: bool = False) -> RoundResult:
    member = MemberResult(device="a", status=Status.ACCEPTED, pushed_at_s=1.0, accepted_at_s=2.0)
    return RoundResult(round=1, void=void, members=(member,), opened_at_s=1.0, closed_at_s=4.5)


def test_a_devices_record_has_stable_keys_and_none_for_what_it_did_not_say() -> None:
    counted, lost = outcome_record(outcome("a"), 0.5, 3), outcome_record(outcome("b", counted=False), None, 4)
    assert list(counted) == list(lost) == ROW_KEYS
    assert counted["train_s"] == PHASE_S and counted["steps"] == 10
    assert counted["wait_s"] == 2.0 - 5 * PHASE_S and counted["fold_s"] == 0.125
    assert counted["timing"] == "ok" and counted["overrun_s"] == 0.0 and lost["network"] == ""
    unknown = ROW_KEYS[ROW_KEYS.index("download_s") : -1]
    assert all(lost[key] is None for key in (*unknown, "reward")) and lost["weight"] == 4


def test_a_rounds_record_is_made_of_those_that_reported() -> None:
    rows = [outcome_record(outcome("a"), 0.5, 3), outcome_record(outcome("b", counted=False), None, 4)]
    record = round_record(closed(), AggregateReport(weight=3, updates=1, dropped_energy=0.125), 0.75, rows)
    assert list(record) == ROUND_KEYS
    assert record["duration_s"] == 3.5 and record["devices"] == 2 and record["accepted"] == 1
    means = dict.fromkeys(PHASES, PHASE_S) | {"wait": 2.0 - 5 * PHASE_S, "fold": 0.125}
    assert record["phase_s"] == means | {"aggregate": 0.75} and record["clock_faults"] == 0
    assert (record["bytes_down"], record["bytes_up"], record["dropped_energy"]) == (100, 50, 0.125)
    nobody = round_record(closed(void=True), AggregateReport(weight=0, updates=0), 0.0, rows[1:])
    assert nobody["phase_s"] == dict.fromkeys((*PHASES, "wait", "fold")) | {"aggregate": 0.0}
    assert nobody["bytes_up"] == 0


def strange(device: str, **changes: Any) -> Json:
    report = replace(device_report(), phase_s={"train": 9.0, "upload": 1.0}, **changes)
    return outcome_record(replace(outcome(device), report=report), 0.5, 3)


def test_phases_that_cannot_have_fitted_are_kept_flagged_and_left_out_of_means() -> None:
    broken, earlier = strange("b"), strange("c", repushed=True)
    assert (broken["train_s"], broken["wait_s"], broken["overrun_s"], broken["timing"]) == (9.0, None, 8.0, "clock")
    assert (earlier["wait_s"], earlier["timing"]) == (None, "repushed")
    rows = [outcome_record(outcome("a"), 0.5, 3), broken, earlier]
    record = round_record(closed(), AggregateReport(weight=9, updates=3), 0.5, rows)
    assert record["phase_s"]["train"] == PHASE_S and record["clock_faults"] == 1
    (event,) = clock_events(rows)
    assert event == {"event": "clock", "round": 1, "device": "b", "time_s": 2.0, "overrun_s": 8.0}


def test_energy_is_there_where_it_was_told() -> None:
    told = replace(outcome("a"), report=replace(device_report(), energy_j=12.5, temperature_c=61.0))
    wrong = replace(outcome("b"), report=replace(device_report(), temperature_c=float("nan")))
    rows = [outcome_record(each, 0.5, 3) for each in (told, wrong, outcome("c"))]
    assert (rows[0]["energy_j"], rows[0]["temperature_c"]) == (12.5, 61.0)
    assert all("energy_j" not in row and "temperature_c" not in row for row in rows[1:])
    assert round_record(closed(), AggregateReport(weight=9, updates=3), 0.1, rows)["energy_j"] == 12.5
    assert energy_of([]) == energy_of(rows[1:]) == {} and energy_of([{"energy_j": 1.0}, {}]) == {"energy_j": 1.0}
