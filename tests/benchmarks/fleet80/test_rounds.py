import pytest

from benchmarks.fleet80.rounds import PARTS, round_figures
from fedcore.core.contract.outcome import Status
from fedcore.core.contract.protocols import Json
from fedcore.core.rounds.result import MemberResult, RoundResult


def row(device: str, kind: str, *, download: float, train: float, upload: float, status: str = "accepted") -> Json:
    figures = {"bytes_down": 100, "bytes_up": 10, "sparsity": 0.5, "rank": 4, "steps": 10}
    return {
        "device": device,
        "class": kind,
        "status": status,
        "download_s": download,
        "prune_s": 0.0,
        "train_s": train,
        "encode_s": 0.0,
        "upload_s": upload,
        "loss_before": 0.6,
        "peak_memory_mb": 120.0,
        **figures,
    }


def closed(number: int, opened_s: float, closed_s: float) -> RoundResult:
    members = tuple(
        MemberResult(device=name, status=Status.ACCEPTED, pushed_at_s=opened_s, accepted_at_s=closed_s)
        for name in ("a-0", "b-0")
    )
    return RoundResult(round=number, void=False, members=members, opened_at_s=opened_s, closed_at_s=closed_s)


ROWS = [
    row("a-0", "a", download=1.0, train=2.0, upload=1.0),
    row("b-0", "b", download=2.0, train=6.0, upload=2.0),
]


def test_a_round_falls_exactly_into_its_parts() -> None:
    (figures,) = round_figures([closed(1, 5.0, 15.0)], [ROWS])
    assert {part: figures[part] for part in PARTS} == {
        "wait_s": pytest.approx(3.0),  # (10 - 4 + 10 - 10) / 2
        "download_s": 1.5,
        "compute_s": 4.0,
        "upload_s": 1.5,
    }
    assert sum(figures[part] for part in PARTS) == pytest.approx(figures["duration_s"]) == 10.0


def test_bytes_are_sums_from_the_beginning_and_arms_are_told_by_class() -> None:
    lost = row("b-0", "b", download=0, train=0, upload=0, status="lost") | {"bytes_down": None, "bytes_up": None}
    first, second = round_figures([closed(1, 0.0, 10.0), closed(2, 10.0, 14.0)], [ROWS, [ROWS[0], lost]])
    assert (first["bytes_down"], first["bytes_up"]) == (200, 20)
    assert (second["bytes_down"], second["bytes_up"]) == (300, 30)
    assert (second["devices"], second["counted"]) == (2, 1)
    assert first["classes"]["b"] == {"devices": 1, "sparsity": 0.5, "rank": 4.0, "steps": 10.0}
    assert set(second["classes"]) == {"a"}


def test_a_round_in_which_nobody_counted_is_all_waiting() -> None:
    (figures,) = round_figures([closed(1, 0.0, 8.0)], [[]])
    assert figures["wait_s"] == 8.0
    assert figures["sparsity"] == 0.0
