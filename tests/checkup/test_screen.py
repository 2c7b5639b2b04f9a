"""The facts of a run as a person sees them: 100 columns, no colour, every problem."""

import dataclasses
import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from fedcore.checkup.facts_json import facts_json
from fedcore.checkup.run_facts import RunFacts
from fedcore.checkup.screen import MOST_DEVICES, WIDTH, duration, print_facts, spread
from fedcore.core.data.device_rows import opening_lines
from tests.checkup.checked_runs import facts_of


def shown(facts: RunFacts) -> str:
    console = Console(file=io.StringIO(), width=60, color_system=None)
    print_facts(console, facts)
    assert console.width == 60
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= WIDTH
    return str(text)


def lines_of(text: str) -> list[list[str]]:
    return [line.split() for line in text.splitlines()]


def test_a_run_that_can_begin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of(tmp_path, monkeypatch)
    text = shown(facts)
    lines = lines_of(text)
    assert facts.rows is not None
    assert ["held", "back", str(facts.rows.held_back)] in lines
    tx2 = facts.classes[1]
    needs = [f"{need:,.0f}" for need in tx2.needs_mb[0][1]]
    assert ["tx2", "256", "0%", *needs] in lines
    assert ["tx2", "256", str(tx2.joins_mb), str(tx2.starts_mb), str(tx2.all_mb), "may", "get", "every", "arm"] in lines
    assert ["agx", "no", "limit", str(tx2.joins_mb), str(tx2.starts_mb), str(tx2.all_mb)] == next(
        line[:6] for line in lines if line[:3] == ["agx", "no", "limit"] and len(line) > 8
    )
    assert text.endswith("ok   the run can begin: fedcore fleet\n")
    assert "*" not in text and "MEND" not in text


def test_a_class_that_cannot_join_is_marked_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of(tmp_path, monkeypatch, "fleet.class.tx2.memory_mb=1")
    text = shown(facts)
    assert f"cannot join: needs {facts.classes[1].joins_mb} at sparsity" in text
    assert "* more than the class's memory_mb" in text
    assert "MEND device tx2-0 of class tx2: training needs" in text
    assert text.endswith("     without 1 device the run can begin: fedcore fleet\n")


def test_memory_below_the_whole_model_says_what_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = "training.batch_size=256"
    kind = facts_of(tmp_path, monkeypatch, batch).classes[1]
    low = shown(facts_of(tmp_path, monkeypatch, batch, f"fleet.class.tx2.memory_mb={kind.joins_mb}"))
    assert "start cut to sparsity " in low and "before anything was scored" in " ".join(low.split())
    middle = shown(facts_of(tmp_path, monkeypatch, batch, f"fleet.class.tx2.memory_mb={kind.starts_mb}"))
    assert "start uncut with rank 2 at most" in middle


def test_all_problems_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = shown(facts_of(tmp_path, monkeypatch, "model.max_length=99", rows="a;x\n,y\nb,\n"))
    assert "MEND model.max_length is 99" in text and "MEND rows that cannot be used:" in text
    assert "line 3: column 'text' is empty" in " ".join(text.split())
    assert "can begin" not in text


def test_few_rows_and_single_labels_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(f"text number {number},{('neg', '[red]pos')[number % 2]}\n" for number in range(12))
    text = " ".join(shown(facts_of(tmp_path, monkeypatch, "data.test_fraction=0.5", rows=rows)).split())
    assert "warning: " in text and "of 1 to 3 rows, too few to learn from: " in text
    assert "[red]pos" in text, "a label is no markup"


def test_of_many_devices_the_largest_and_smallest_are_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = lines_of(shown(facts_of(tmp_path, monkeypatch, "fleet.class.agx.count=20")))
    assert ["...", str(21 - MOST_DEVICES), "more"] in lines
    assert (
        sum(line[0].startswith(("agx-", "tx2-")) for line in lines if line and "label" in " ".join(line))
        == MOST_DEVICES
    )


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.4, "0 s"), (119, "119 s"), (150, "2 min"), (7200, "2.0 h"), (3.6e7, "10,000.0 h")]
)
def test_durations_are_in_the_unit_a_person_would_use(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("count", "most", "places"),
    [(1, 6, [0]), (6, 6, [0, 1, 2, 3, 4, 5]), (16, 6, [0, 3, 6, 9, 12, 15]), (7, 2, [0, 6])],
)
def test_of_many_ranks_some_are_shown(count: int, most: int, places: list[int]) -> None:
    assert spread(count, most) == places


def test_many_ranks_and_long_names_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of(tmp_path, monkeypatch, f"strategy.ranks={list(range(1, 17))}")
    long = dataclasses.replace(facts.classes[0], name="a-class-with-quite-a-long-name-" * 2)
    text = shown(dataclasses.replace(facts, classes=(*facts.classes, long)))
    assert "rank 1  rank 4  rank 7  rank 10  rank 13  rank 16" in text
    assert all(f"{figure:,}" in text for figure in (long.joins_mb, long.starts_mb, long.all_mb))


def test_the_values_of_a_column_that_rows_are_dealt_by_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = facts_of(tmp_path, monkeypatch)
    assert facts.rows is not None
    devices = tuple(
        replace(device, values={"en": 1200 + place, "de": 7}) for place, device in enumerate(facts.rows.devices)
    )
    rows = replace(facts.rows, devices=devices, column="lang", values={"en": 3600, "de": 21})
    text = shown(replace(facts, rows=rows))
    assert "lang" in text and "en 1,200, de 7" in text and "en 3,600, de 21" in text
    assert facts_json(replace(facts, rows=rows))["rows"]["devices"][0]["values"] == {"en": 1200, "de": 7}
    assert opening_lines(rows)[2] == "dealt by column 'lang': 2 values: en >99%, de <1%"


def test_a_column_that_tells_nothing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of(tmp_path, monkeypatch, "data.partition=by:text")
    assert not facts.can_begin and "column 'text' has another value in every row" in facts.problems[0]
