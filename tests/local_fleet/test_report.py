import io
from typing import Any

import pytest
from rich.console import Console

from fedcore.local_fleet.report import print_report
from tests.local_fleet.finished_run import class_of, metrics, network_of, result, round_of, summary_of

WHOLE = summary_of(
    [round_of(number) for number in range(1, 4)],
    {"agx": class_of(), "tx2": class_of(target_sparsity=0.25, realised_sparsity=0.241)},
    untrained=metrics(0.501),
    final=metrics(0.834),
    reference=metrics(0.851, None),
)

PHASES = "Seconds by phase, mean over the round's devices; closing it, once"
FIGURES = "Figures on held-back rows; after the first cut, of one class at a time"
NETWORKS = "Shares of the time from push to acceptance, by network class"


DENSE = (
    "the same adapter on the dense model, which no device trains: accuracy 0.834, AUC 0.912, macro-F1 0.789 on 500 "
    "held-back rows"
)


def lines_of(summary: dict[str, Any], width: int = 80) -> list[str]:
    out = io.StringIO()
    print_report(Console(file=out, width=width), summary)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def table(lines: list[str], title: str) -> list[list[str]]:
    """Rows of the table under `title`, the header first, cells by two or more spaces."""
    start = lines.index(title) + 1
    rows = lines[start : lines.index("", start)]
    return [[cell.strip() for cell in row.split("  ") if cell.strip()] for row in rows if not row.startswith("─")]


def test_a_narrow_terminal_loses_no_cell() -> None:
    assert lines_of(WHOLE, 40) == lines_of(WHOLE, 80)


def test_rounds_have_updates_seconds_and_bytes() -> None:
    rows = table(lines_of(WHOLE), "Rounds")
    assert rows[0] == ["round", "updates", "seconds", "MB up", "MB down"]
    assert rows[1] == ["1", "2/2", "12.3", "1.6", "4.3"]
    assert len(rows) == 4


def test_figures_name_their_model() -> None:
    pruned = round_of(2, evaluated_class="tx2", evaluated_sparsity=0.4975)
    summary = summary_of([round_of(1), pruned, round_of(3, accuracy=None)], {}, untrained=metrics(0.501))
    rows = table(lines_of(summary), FIGURES)
    assert rows == [
        ["model", "after round", "accuracy", "AUC", "macro-F1", "loss"],
        ["untrained", "0", "0.501", "0.912", "0.789", "0.456"],
        ["dense", "1", "0.801", "0.912", "0.789", "0.456"],
        ["tx2, 50% pruned", "2", "0.802", "0.912", "0.789", "0.456"],
    ]


def test_seconds_by_phase() -> None:
    rows = table(lines_of(WHOLE), PHASES)
    assert rows[0] == ["round", "download", "prune", "train", "encode", "upload", "wait", "fold", "close"]
    assert rows[3] == ["3", "0.11", "0.22", "9.33", "0.04", "0.55", "0.77", "0.08", "0.09"]


def test_what_share_of_the_round_was_the_uplink() -> None:
    networks = {"5g": network_of(), "unknown": network_of(time_s=0, uplink_mbps=None)}
    lines = lines_of({**WHOLE, "networks": networks})
    rows = table(lines, NETWORKS)
    assert rows[0] == [
        "network",
        "updates",
        "uplink",
        "downlink",
        "wait",
        "train",
        "Mbit/s up",
        "Mbit/s down",
    ]
    assert rows[1] == ["5g", "6", "20.0%", "10.0%", "7.5%", "60.0%", "12.3", "n/a"]
    assert rows[2] == ["unknown", "6", *["n/a"] * 6]
    assert not any("clock" in line for line in lines)


def test_updates_of_a_broken_clock_are_said_to_be_left_out() -> None:
    lines = lines_of({**WHOLE, "networks": {"wifi": network_of(clock_faults=2)}})
    assert any(line.startswith("2 updates are left out of the shares: their device's clock is wrong") for line in lines)


def test_every_arm_and_reward_is_shown() -> None:
    ends = [result("agx-0", 1, reward=0.0), result("tx2-0", 1, status="lost", reward=None)]
    late = [result("agx-0", 2, status="missed_deadline", reward=0.0), result("nx-0", 2, status="rejected", reward=0.0)]
    rows = table(
        lines_of(summary_of([round_of(1, results=ends), round_of(2, results=late)], {})),
        "Arms and rewards of every device: sparsity, rank, reward",
    )
    assert rows == [
        ["device", "round 1", "round 2"],
        ["agx-0", "25% r16 0.00", "25% r16 late"],
        ["nx-0", "-", "25% r16 refused"],
        ["tx2-0", "25% r16 lost", "-"],
    ]


def test_exports_show_what_is_kept_and_how_it_does() -> None:
    lines = lines_of(WHOLE)
    sizes = table(lines, "Exports: what each class keeps")
    assert sizes[0] == ["class", "target", "sparsity", "heads", "channels", "parameters", "of dense", "MB on disk"]
    assert sizes[2] == ["tx2", "25%", "24.1%", "6/12", "768/1536", "17.25 M", "0.76", "69.0"]
    speeds = table(lines, "Exports: how each class does")
    assert speeds[0] == ["class", "accuracy", "AUC", "macro-F1", "latency ms", "of dense", "training MiB"]
    assert speeds[1] == ["agx", "0.777", "0.912", "0.789", "12.3", "0.50", "188"]


def test_the_closing_words() -> None:
    assert lines_of(WHOLE, 140)[-5:] == [
        "agx, 50% pruned: accuracy 0.777, AUC 0.912, macro-F1 0.789 on 500 held-back rows",
        "tx2, 24% pruned: accuracy 0.777, AUC 0.912, macro-F1 0.789 on 500 held-back rows",
        DENSE,
        "centralised LoRA on the dense model, as many steps: accuracy 0.851, macro-F1 0.789 on 500 held-back rows",
        "48 optimiser steps in 3 rounds, 36 s; 2.7 MB up, 8.5 MB down",
    ]


def test_floors_and_warnings_close_the_report() -> None:
    floor = {"accuracy": 0.515, "macro_f1": 0.3, "rows": 500}
    floors = {
        "majority": {"label": "neg", **floor},
        "untrained": metrics(0.501),
        "tfidf": {**floor, "accuracy": 0.777, "trained_on": 400, "cross_validated": True},
    }
    lines = lines_of({**WHOLE, "floors": floors, "warnings": ["tx2 [b]is no better"]}, 200)
    words = "TF-IDF with logistic regression 0.777 (cross-validated over held-back rows, 400 rows)"
    assert f"floors, in accuracy: always answering 'neg' 0.515, untrained model 0.501, {words}" in lines
    assert lines[-1] == "warning: tx2 [b]is no better"
    without = {"majority": {"label": "neg", **floor}, "untrained": None, "tfidf": None}
    assert "floors, in accuracy: always answering 'neg' 0.515" in lines_of({**WHOLE, "floors": without})


def test_where_nothing_is_pruned_the_global_adapter_is_the_result() -> None:
    lines = lines_of(summary_of([round_of(1)], {"agx": class_of(realised_sparsity=0.0)}, final=metrics(0.834)))
    assert "global adapter: accuracy 0.834, AUC 0.912, macro-F1 0.789 on 500 held-back rows" in lines


def test_without_an_evaluator_figures_read_n_a() -> None:
    nothing = dict.fromkeys(("accuracy", "auc", "macro_f1", "loss"))
    blank = dict.fromkeys(("parameters", "dense_parameters", "size_bytes", "latency_s", "latency_ratio", "test"))
    lines = lines_of(summary_of([round_of(1, **nothing)], {"agx": class_of(**blank, peak_training_memory_mb=None)}))
    assert "none: no evaluator answered after a round" in lines
    assert table(lines, "Exports: what each class keeps")[1][-3:] == ["n/a", "n/a", "n/a"]
    assert table(lines, "Exports: how each class does")[1] == ["agx", *["n/a"] * 6]
    assert not any("held-back rows" in line for line in lines if line != FIGURES)


def test_a_void_round_without_reports() -> None:
    phases = dict.fromkeys(("download", "prune", "train", "encode", "upload", "wait", "fold")) | {"aggregate": 0.0}
    lines = lines_of(summary_of([round_of(1, void=True, accepted=0, phase_s=phases, results=[])], {}))
    assert table(lines, "Rounds")[1][1] == "void"
    assert table(lines, PHASES)[1] == ["1", *["n/a"] * 7, "0.09"]


DEVICES = tuple(f"{name}-{number}" for name in ("agx", "nx", "raspberry-pi") for number in range(2))
LARGE = class_of(
    heads_kept=24,
    heads_dense=32,
    channels_kept=11008,
    channels_dense=14336,
    parameters=1_344_000_000,
    size_bytes=5_376_000_000,
    latency_s=12.3456,
    peak_training_memory_mb=15234.0,
)


@pytest.mark.parametrize("width", [80, 120])
def test_nothing_is_cut_on_a_narrow_terminal(width: int) -> None:
    rounds = [round_of(number, DEVICES, duration_s=1234.5, bytes_down=12_345_000_000) for number in range(98, 110)]
    names = ("agx", "raspberry-pi-five-in-the-corner", "x" * 63)
    summary = summary_of(rounds, dict.fromkeys(names, LARGE), untrained=metrics(0.5))
    large = network_of(devices=1000, updates=100_000, clock_faults=100_000, uplink_mbps=10_000.0, downlink_mbps=1e4)
    lines = lines_of(summary | {"networks": {"ethernet": large, "x" * 63: large}}, width)
    text = "\n".join(lines)
    assert "…" not in text and max(map(len, lines)) <= width
    for figure in ("12345.0", "1234.5", "11008/14336", "1344.00 M", "5376.0", "12345.6", "15234"):
        assert figure in text
    assert text.count("25% r16 0.50") == 12 * len(DEVICES)
    for device in DEVICES:
        assert device in text  # names of devices stay in one piece
    assert text.replace("\n", "").count("x") >= 3 * 63  # a class name of any length is folded, not cut


def test_a_large_fleet_is_sent_to_the_file() -> None:
    devices = tuple(f"d-{number}" for number in range(100))
    lines = lines_of(summary_of([round_of(number, devices) for number in range(1, 4)], {}))
    assert "100 devices in 3 rounds: see rounds.csv" in lines


def test_a_run_without_rounds_has_a_report_too() -> None:
    assert lines_of(summary_of([], {}))[-1].startswith("48 optimiser steps in 0 rounds")


def test_models_that_write_answer_side_by_side() -> None:
    def told(answer: str) -> dict[str, Any]:
        return metrics(0.5) | {"samples": [{"prompt": "a cat:", "reference": "animal", "answer": answer}]}

    written = summary_of(
        [round_of(1)],
        {"agx": class_of() | {"test": told("pet")}},
        untrained=told("A cat is"),
        final=told("animal"),
        reference=None,
    )
    lines = lines_of(written)
    start = lines.index("the same prompts, answered greedily:")
    assert lines[start + 1 : start + 6] == [
        "  a cat:",
        "    reference  animal",
        "    untrained  A cat is",
        "    dense      animal",
        "    agx        pet",
    ]
