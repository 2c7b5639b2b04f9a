"""What share of the round was the uplink? By network class, over the updates that counted."""

from dataclasses import replace
from typing import Any

import pytest

from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.outcome import Outcome, Status
from fedcore.core.contract.protocols import Json
from fedcore.server.run.network_totals import network_totals
from fedcore.server.run.records import outcome_record
from tests.tiny_run import device_report

MB = 1_000_000


def row(device: str, network: str, *, status: Status = Status.ACCEPTED, time_s: float = 10.0, **report: Any) -> Json:
    given = {"phase_s": {"download": 1.0, "train": 4.0, "upload": 2.0}, "bytes_up": MB, "bytes_down": 4 * MB} | report
    outcome = Outcome(
        device=device,
        device_class="tiny",
        round=1,
        arm=Arm(sparsity=0.25, rank=4),
        status=status,
        time_s=time_s,
        report=replace(device_report(), **given) if status is Status.ACCEPTED else None,
        fold_s=0.5 if status is Status.ACCEPTED else None,
        network=network,
    )
    return outcome_record(outcome, 0.5, 3)


def test_shares_are_of_the_summed_times_and_rates_of_the_summed_transfers() -> None:
    slow = {"download": 1.0, "train": 4.0, "upload": 14.0}
    totals = network_totals([row("a", "5g"), row("b", "5g", time_s=30.0, phase_s=slow), row("a", "5g")])
    assert list(totals) == ["5g"]
    of = totals["5g"]
    assert (of["devices"], of["updates"], of["timed_updates"], of["clock_faults"]) == (2, 3, 3, 0)
    assert (of["bytes_up"], of["bytes_down"], of["time_s"]) == (3 * MB, 12 * MB, 50.0)
    assert of["uplink_share"] == 18.0 / 50.0 and of["downlink_share"] == 3.0 / 50.0
    assert of["uplink_mbps"] == pytest.approx(24 / 18) and of["downlink_mbps"] == pytest.approx(96 / 3)
    assert of["phase_s"]["train"] == 12.0 and of["phase_s"]["fold"] == 1.5 and of["phase_s"]["wait"] == 17.0
    assert sum(of["phase_s"].values()) - of["phase_s"]["fold"] == of["time_s"]


def test_classes_are_kept_apart_and_whoever_names_none_is_unknown() -> None:
    totals = network_totals([row("a", "wifi"), row("b", ""), row("c", "ethernet"), row("d", "")])
    assert {name: each["devices"] for name, each in totals.items()} == {"ethernet": 1, "unknown": 2, "wifi": 1}


def test_only_updates_that_counted_are_in_it() -> None:
    totals = network_totals(
        [row("a", "wifi"), row("b", "wifi", status=Status.LOST), row("c", "5g", status=Status.LOST)]
    )
    assert list(totals) == ["wifi"] and totals["wifi"]["updates"] == 1


def test_a_broken_clock_is_counted_and_believed_in_nothing_but_bytes() -> None:
    totals = network_totals([row("a", "wifi"), row("b", "wifi", phase_s={"upload": 99.0})])["wifi"]
    assert (totals["updates"], totals["timed_updates"], totals["clock_faults"]) == (2, 1, 1)
    assert totals["uplink_share"] == 0.2 and totals["bytes_up"] == 2 * MB


def test_what_rode_inside_a_message_has_no_rate() -> None:
    totals = network_totals([row("a", "wifi", bytes_up=60_000, bytes_down=0)])["wifi"]
    assert totals["uplink_mbps"] is None and totals["downlink_mbps"] is None and totals["uplink_share"] == 0.2


def test_rows_of_an_earlier_version_count_without_times() -> None:
    old = {key: value for key, value in row("a", "").items() if key not in ("wait_s", "fold_s", "timing", "network")}
    totals = network_totals([old])["unknown"]
    assert totals["updates"] == 1 and totals["timed_updates"] == 0 and totals["uplink_share"] is None
