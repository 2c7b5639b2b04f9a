import io
from dataclasses import replace
from functools import reduce

import pytest
from rich.console import Console

from fedcore.local_fleet.progress import DeviceLine, Evaluated, RunProgress, advance
from fedcore.local_fleet.view import (
    LiveView,
    PlainView,
    delivered,
    draw,
    floors,
    headline,
    megabytes,
    open_view,
    quality,
)
from tests.local_fleet.finished_run import events

BEGIN = RunProgress(total_rounds=4)
DONE = reduce(advance, events(), BEGIN)


def drawn(progress: RunProgress, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(draw(progress))
    return out.getvalue()


def test_the_headline_says_where_the_run_stands() -> None:
    assert headline(DONE) == (
        "round 1/4  |  accuracy 0.801, AUC 0.912 after round 1  |  1.6 MB up, 4.3 MB down  |  about 29 s left"
    )
    assert headline(replace(BEGIN, void=2)) == "round 0/4, 2 void  |  not yet evaluated  |  0.0 MB up, 0.0 MB down"


def test_the_time_left_is_never_negative() -> None:
    assert "about 0 s left" in headline(replace(DONE, last_t=1e9))


def test_before_and_after_the_rounds_the_headline_says_what_goes_on() -> None:
    assert headline(BEGIN) == "waiting for devices, 0 joined"
    here = {"a": DeviceLine(state="idle"), "b": DeviceLine(state="away"), "c": DeviceLine()}
    assert headline(replace(BEGIN, devices=here)) == "waiting for devices, 1 joined"
    assert headline(replace(DONE, closed=4)).endswith("measuring and exporting")


def test_quality_before_and_without_auc() -> None:
    assert quality(BEGIN) == "not yet evaluated"
    untrained = Evaluated(figures={"accuracy": 0.5}, round=0)
    assert quality(replace(BEGIN, models={"": untrained})) == "accuracy 0.500 untrained"
    trained = replace(untrained, figures={"accuracy": 0.5, "auc": 0.25}, round=3)
    assert quality(replace(BEGIN, models={"": trained})) == "accuracy 0.500, AUC 0.250 after round 3"


PRUNED = replace(
    BEGIN,
    models={
        "": Evaluated(figures={"accuracy": 0.749}, round=4),
        "nx": Evaluated(figures={"accuracy": 0.85}, round=6, device_class="nx", sparsity=0.352),
        "agx": Evaluated(figures={"accuracy": 0.86, "auc": 0.9}, round=5, device_class="agx", sparsity=0.2),
    },
    floors=(("always 'neg'", 0.515), ("TF-IDF", 0.777)),
)


def test_the_headline_is_of_the_model_measured_last() -> None:
    assert quality(PRUNED) == "nx at 35%: accuracy 0.850 after round 6"


def test_floors_are_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert floors(BEGIN) == "" and floors(PRUNED) == "to beat: always 'neg' 0.515, TF-IDF 0.777"
    view = PlainView(Console(width=80))
    for progress in (BEGIN, PRUNED, replace(PRUNED, closed=7)):
        view.show(progress)
    assert capsys.readouterr().out.count("to beat: always 'neg' 0.515, TF-IDF 0.777") == 1
    assert "to beat: always 'neg'" in drawn(replace(PRUNED, round=6, closed=6), 80)


def test_every_class_keeps_its_last_figure_in_the_picture() -> None:
    assert delivered(BEGIN) == "" and delivered(replace(BEGIN, models={"": PRUNED.models[""]})) == ""
    assert delivered(PRUNED) == "delivered now: agx at 20%: 0.860 (round 5), nx at 35%: 0.850 (round 6)"
    assert "delivered now: agx at 20%: 0.860" in drawn(replace(PRUNED, round=6, closed=6), 80)


def test_megabytes() -> None:
    assert megabytes(1_649_999) == "1.6 MB"


@pytest.mark.parametrize("width", [80, 120])
def test_the_picture_has_a_row_for_every_device(width: int) -> None:
    lines = drawn(DONE, width).splitlines()
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "…" not in text
    rows = [line.split() for line in lines]
    assert ["device", "class", "state", "sparsity", "rank", "reward"] in rows
    assert ["agx-0", "agx", "done", "25%", "8", "0.75"] in rows
    assert ["tx2-0", "tx2", "rejected", "20%", "8", "-"] in rows
    assert "tx2-0, round 1: holds NaN" in text


def test_a_run_in_full_swing_fits_a_narrow_terminal() -> None:
    late = {"": replace(DONE.models[""], round=99)}
    busy = replace(DONE, total_rounds=100, closed=99, closed_before=98, models=late, bytes_up=10**10, void=10)
    lines = drawn(busy, 80).splitlines()
    assert lines[0].startswith("round 99/100, 10 void  |  10000.0 MB up") and lines[0].endswith("s left")
    assert lines[1] == "accuracy 0.801, AUC 0.912 after round 99"


def test_long_names_are_not_cut() -> None:
    name = "a-device-with-a-rather-long-name-in-the-corner-of-the-lab-0"
    progress = replace(BEGIN, devices={name: DeviceLine(device_class="raspberry-pi-five", state="training")})
    text = drawn(progress, 80)
    assert "…" not in text and "training" in text


def test_only_the_last_notes_are_shown() -> None:
    text = drawn(replace(BEGIN, notes=("one", "two", "three", "four")), 80)
    assert "one" not in text and "four" in text


def test_a_file_gets_a_line_per_round_and_evaluation_and_each_note_once() -> None:
    out = io.StringIO()
    with open_view(Console(file=out, width=200), plain=False) as view:
        assert isinstance(view, PlainView)
        progress = BEGIN
        for event in events():
            progress = advance(progress, event)
            view.show(progress)
            view.show(progress)
    assert out.getvalue().splitlines() == [
        "agx-0 (agx) joined",
        "tx2-0 (tx2) joined",
        "accuracy 0.500, AUC 0.912 untrained",
        "tx2-0, round 1: holds NaN",
        "round 1/4  |  accuracy 0.500, AUC 0.912 untrained  |  1.6 MB up, 4.3 MB down  |  about 30 s left",
        "accuracy 0.801, AUC 0.912 after round 1",
    ]


def test_markup_in_a_note_is_text() -> None:
    out = io.StringIO()
    PlainView(Console(file=out, width=80)).show(replace(BEGIN, notes=("[bold]x[/nothing]",)))
    assert out.getvalue() == "[bold]x[/nothing]\n"


def test_a_terminal_gets_the_live_picture_unless_told_otherwise() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True)
    with open_view(console, plain=True) as view:
        assert isinstance(view, PlainView)
    with open_view(console, plain=False) as view:
        assert isinstance(view, LiveView)
        view.show(DONE)
    assert "agx-0" in out.getvalue()
