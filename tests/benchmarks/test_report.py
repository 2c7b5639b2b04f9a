import json
import sys

import pytest

from benchmarks.report import RESULTS, emit, machine, parser

ROWS = [{"case": "small", "seconds": 0.12345678}, {"case": "large", "seconds": 2.0, "MB": 7}]


def test_flags_are_shared():
    made = parser("demo", "A demonstration.")
    assert made.parse_args([]).json is None and not made.parse_args([]).quick
    assert made.parse_args(["--quick", "--json"]).json == RESULTS / "demo.json"
    assert made.parse_args(["--json", "x.json"]).json.name == "x.json"


def test_machine_says_what_figures_depend_on():
    found = machine()
    assert {"platform", "cpu_model", "cpu_count"} <= set(found)
    assert found["cpu_count"] >= 1 and found["cpu_model"]


def test_the_table_shows_every_column_and_gaps(capsys):
    emit("demo", ROWS, parser("demo", "").parse_args([]), notes={"goal": "none"})
    shown = capsys.readouterr().out
    assert "0.1235" in shown and "MB" in shown and " - " in shown and "goal: none" in shown


def test_json_holds_machine_date_command_and_every_figure(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["benchmarks/demo.py", "--quick", "--json"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = tmp_path / "results" / "demo.json"
    emit("demo", ROWS, parser("demo", "").parse_args(["--json", str(path)]))
    stored = json.loads(path.read_text())
    assert stored["rows"] == ROWS
    assert stored["command"].startswith("OMP_NUM_THREADS=1") and stored["command"].endswith("demo --quick --json")
    assert stored["machine"]["cpu_count"] and stored["date"].endswith("+00:00")
    assert "wrote" in capsys.readouterr().out


def test_unknown_flags_end_with_status_two(capsys):
    with pytest.raises(SystemExit) as stop:
        parser("demo", "").parse_args(["--fast"])
    assert stop.value.code == 2 and "benchmarks.demo" in capsys.readouterr().err
