from functools import reduce
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.local_fleet.progress import DeviceLine, Evaluated, RunProgress, advance
from tests.local_fleet.finished_run import events, metrics, round_of

BEGIN = RunProgress(total_rounds=4)
FIGURES = {"accuracy": 0.801, "auc": 0.912, "macro_f1": 0.789, "loss": 0.456}


def after(*more: dict[str, Any], count: int | None = None) -> RunProgress:
    return reduce(advance, [*events()[:count], *more], BEGIN)


def test_a_round_from_start_to_evaluation() -> None:
    progress = after()
    model = progress.models[""]
    assert (progress.round, progress.closed, progress.void) == (1, 1, 0)
    assert (progress.bytes_up, progress.bytes_down) == (1_600_000, 4_300_000)
    assert (model.figures["accuracy"], model.figures["auc"], progress.evaluated_round) == (0.801, 0.912, 1)
    assert progress.devices == {
        "agx-0": DeviceLine(device_class="agx", state="done", sparsity=0.25, rank=8, reward=0.75),
        "tx2-0": DeviceLine(device_class="tx2", state="rejected", sparsity=0.2, rank=8),
    }
    assert progress.notes == ("tx2-0, round 1: holds NaN",)


def test_states_follow_a_device_through_its_round() -> None:
    states = [after(count=count).devices["agx-0"].state for count in (2, 6, 8, 10)]
    assert states == ["idle", "assigned", "training", "done"]
    assert after({"t": 130.0, "event": "left", "device": "agx-0"}).devices["agx-0"].state == "away"


def test_the_evaluator_is_no_device() -> None:
    progress = after({"t": 130.0, "event": "left", "device": "evaluator"})
    assert set(progress.devices) == {"agx-0", "tx2-0"}


def test_the_time_left_is_the_mean_round_times_the_rounds_left() -> None:
    assert after(count=12).remaining_s is None
    assert after(count=13).remaining_s == pytest.approx(3 * (120.0 - 110.0))
    assert after(count=14).remaining_s == pytest.approx(3 * (120.0 - 110.0) - 1.0)  # a second into round 2


def test_a_void_round_is_counted_apart() -> None:
    progress = after({"t": 125.0, "event": "round_closed", **round_of(2, void=True)})
    assert (progress.closed, progress.void) == (1, 1)
    assert progress.bytes_up == 3_200_000


def test_a_pause_is_no_part_of_the_time_left() -> None:
    resumed = after({"t": 9000.0, "event": "started", "next_round": 2, "pid": 8})
    assert resumed.started_t == 100.0 and resumed.closed == 1
    assert resumed.remaining_s is None
    assert {line.state for line in resumed.devices.values()} == {"starting"}
    more = [
        {"t": 9010.0, "event": "choice", "round": 2, "device": "agx-0", "arm": {"sparsity": 0.5, "rank": 4}},
        {"t": 9030.0, "event": "round_closed", **round_of(2)},
    ]
    assert reduce(advance, more, resumed).remaining_s == pytest.approx(2 * 20.0)


@pytest.mark.parametrize(
    ("event", "note"),
    [
        ({"event": "late", "device": "agx-0", "round": 1}, "agx-0, round 1: late"),
        ({"event": "failed", "device": "agx-0", "round": 1, "message": "no memory"}, "agx-0, round 1: no memory"),
        ({"event": "task_failed", "task": "export nx", "message": "disk full"}, "export nx: disk full"),
        (
            {"event": "learning_rate", "round": 1, "learning_rate": 3e-3, "devices": 6, "trials": []},
            "learning rate 0.003, by the trials of 6 devices",
        ),
    ],
)
def test_mishaps_and_findings_become_notes(event: dict[str, Any], note: str) -> None:
    assert after({"t": 130.0, **event}).notes[-1] == note


@pytest.mark.parametrize("task", ["final", "reference", "export agx"])
def test_other_evaluations_do_not_move_the_rounds_figure(task: str) -> None:
    assert (
        after({"t": 130.0, "event": "evaluated", "task": task, **metrics(0.1)}).models[""].figures["accuracy"] == 0.801
    )


def test_events_of_later_versions_are_passed_over() -> None:
    assert after({"t": 130.0, "event": "unheard", "device": "x"}).devices == after().devices


@given(st.permutations(events()[1:]))
def test_no_order_of_events_breaks_the_view(order: list[dict[str, Any]]) -> None:
    progress = reduce(advance, order, BEGIN)
    assert progress.closed == 1 and progress.last_t == order[-1]["t"]


def test_a_clock_that_is_wrong_is_noted() -> None:
    progress = after({"t": 130.0, "event": "clock", "device": "tx2-0", "round": 1, "time_s": 1.0, "overrun_s": None})
    assert progress.notes[-1] == "tx2-0, round 1: its phases exceed its time; look after its clock"


def test_the_figures_of_a_class_stand_beside_those_of_the_dense_model() -> None:
    pruned = {"event": "evaluated", "task": "round 2", "class": "nx", "sparsity": 0.35, **metrics(0.7)}
    progress = after({"t": 130.0, **pruned})
    assert progress.models == {
        "": Evaluated(figures={**FIGURES, "accuracy": 0.801}, round=1),
        "nx": Evaluated(figures={**FIGURES, "accuracy": 0.7}, round=2, device_class="nx", sparsity=0.35),
    }
    assert progress.evaluated_round == 2


def test_floors_are_kept_for_the_headline() -> None:
    floor = {"accuracy": 0.515, "macro_f1": 0.3, "rows": 500}
    event = {"t": 130.0, "event": "floors", "majority_label": "neg", "majority": floor, "tfidf": None}
    assert after(event).floors == (("always 'neg'", 0.515),)
    words = {**floor, "accuracy": 0.777}
    assert after({**event, "tfidf": words}).floors == (("always 'neg'", 0.515), ("TF-IDF", 0.777))
