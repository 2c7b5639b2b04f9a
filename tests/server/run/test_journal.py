"""events.jsonl, rounds.csv and summary.json, also after a crash in the middle of a line."""

import csv
import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.errors import RunError
from fedcore.server.run.journal import COLUMNS, EventLog, RoundTable, read_events, write_summary


def write(path: Path, *rounds: int | None) -> EventLog:
    log = EventLog(path)
    for number, index in enumerate(rounds):
        log.append(float(number), "step", {} if index is None else {"round": index})
    return log


def test_one_line_per_event_readable_at_once(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.append(1.5, "joined", {"device": "a", "class": "agx"})
    log.append(2.0, "started")
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert lines == ['{"t":1.5,"event":"joined","device":"a","class":"agx"}', '{"t":2.0,"event":"started"}']
    assert list(read_events(tmp_path / "events.jsonl")) == [json.loads(line) for line in lines]


def test_floats_come_back_exactly_and_nan_is_null(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.append(0.0, "reward", {"value": 0.1 + 0.2, "loss": [math.nan, -math.inf, 1.0]})
    (event,) = read_events(tmp_path / "events.jsonl")
    assert event["value"] == 0.1 + 0.2 and event["loss"] == [None, None, 1.0]


def test_fields_cannot_hide_time_or_kind(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    with pytest.raises(ValueError, match="t and event are arguments"):
        log.append(0.0, "x", {"t": 1.0})
    assert (tmp_path / "events.jsonl").read_bytes() == b""


def test_events_of_one_moment_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.extend(1.0, [("pushed", {"device": "a"}), ("pushed", {"device": "b", "loss": math.nan})])
    with pytest.raises(ValueError, match="t and event are arguments"):
        log.extend(2.0, [("pushed", {"device": "c"}), ("pushed", {"event": "x"})])
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert lines == ['{"t":1.0,"event":"pushed","device":"a"}', '{"t":1.0,"event":"pushed","device":"b","loss":null}']


def test_torn_last_line_is_left_out_and_cut_before_the_next_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    write(path, 1).close()
    with path.open("ab") as file:
        file.write(b'{"t":9.0,"event":"half')
    assert [event["t"] for event in read_events(path)] == [0.0]
    EventLog(path).append(3.0, "resumed")
    assert [event["event"] for event in read_events(path)] == ["step", "resumed"]


def test_only_a_torn_line_is_cut_to_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"x" * 200_000)
    write(path, 1).close()
    assert len(list(read_events(path))) == 1


@pytest.mark.parametrize("bad", [b"not json\n", b"[1]\n", b"\xff\xfe\n"])
def test_other_broken_lines_are_named(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"t":1,"event":"x"}\n' + bad + b'{"t":2,"event":"y"}\n')
    with pytest.raises(RunError, match="line 2"):
        list(read_events(path))


def test_truncate_drops_rounds_that_were_never_committed(tmp_path: Path) -> None:
    log = write(tmp_path / "events.jsonl", None, 1, 2, 3, None, 3)
    assert log.truncate_after(2) == 2
    log.append(9.0, "resumed", {"round": 3})
    events = list(read_events(tmp_path / "events.jsonl"))
    assert [event.get("round") for event in events] == [None, 1, 2, None, 3]
    assert log.truncate_after(3) == 0


@settings(max_examples=30, deadline=None)
@given(cut=st.integers(0, 400), texts=st.lists(st.text(max_size=12), min_size=1, max_size=6))
def test_a_crash_at_any_byte_loses_only_what_was_not_written(
    tmp_path_factory: pytest.TempPathFactory, cut: int, texts: list[str]
) -> None:
    path = tmp_path_factory.mktemp("run") / "events.jsonl"
    log = EventLog(path)
    for text in texts:
        log.append(1.0, "say", {"text": text})
    log.close()
    path.write_bytes(path.read_bytes()[:cut])
    whole = path.read_bytes().count(b"\n")
    log = EventLog(path)
    log.append(2.0, "again")
    log.close()
    events = list(read_events(path))
    assert [event.get("text") for event in events] == [*texts[:whole], None]


def row(index: int, device: str) -> dict[str, object]:
    return {"round": index, "device": device, "class": "agx", "status": "accepted", "time_s": 1.25, "steps": 10}


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_table_has_one_header_and_known_columns_only(tmp_path: Path) -> None:
    path = tmp_path / "rounds.csv"
    for index in (1, 2):  # opened again, as by a resumed run
        table = RoundTable(path)
        table.append([row(index, "a"), row(index, "b,\n")])
        table.close()
    found = rows(path)
    assert [(each["round"], each["device"]) for each in found] == [("1", "a"), ("1", "b,\n"), ("2", "a"), ("2", "b,\n")]
    assert tuple(found[0]) == COLUMNS and found[0]["reward"] == "" and found[0]["time_s"] == "1.25"


@pytest.mark.parametrize("left", [None, b"", b"round,device\n\xff\xfe,a\n", b"torn"])
def test_a_table_is_restored_whatever_became_of_it(left: bytes | None, tmp_path: Path) -> None:
    if left is not None:
        (tmp_path / "rounds.csv").write_bytes(left)
    table = RoundTable(tmp_path / "rounds.csv")
    table.append([row(2, "never committed")])
    table.restore([row(1, "a")])
    table.append([row(2, "b")])
    assert [(each["round"], each["device"]) for each in rows(tmp_path / "rounds.csv")] == [("1", "a"), ("2", "b")]


def test_torn_row_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "rounds.csv"
    table = RoundTable(path)
    table.append([row(1, "a")])
    table.close()
    with path.open("a") as file:
        file.write("2,b,ag")
    RoundTable(path).append([row(2, "c")])
    assert [each["device"] for each in rows(path)] == ["a", "c"]


def test_summary_is_strict_json_in_the_given_order(tmp_path: Path) -> None:
    write_summary(tmp_path / "summary.json", {"name": "run", "accuracy": math.nan, "rounds": ({"b": 1, "a": 2},)})
    text = (tmp_path / "summary.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "name": "run",
        "accuracy": None,
        "rounds": [{"b": 1, "a": 2}],
    }
    assert text.index('"b"') < text.index('"a"', text.index("rounds")) and text.endswith("}\n")
