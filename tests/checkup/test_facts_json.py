"""The facts of a run for programs."""

import json
from pathlib import Path

import pytest

from fedcore.checkup.facts_json import facts_json
from tests.checkup.checked_runs import facts_of


def test_facts_are_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of(tmp_path, monkeypatch)
    value = json.loads(json.dumps(facts_json(facts)))
    assert (value["ok"], value["can_begin"], value["problems"], value["labels"]) == (True, True, [], ["neg", "pos"])
    assert [device["device"] for device in value["rows"]["devices"]] == ["agx-0", "agx-1", "tx2-0"]
    assert value["classes"][1]["joins_mb"] == facts.classes[1].joins_mb
    assert value["total"]["rounds"] == 4


def test_a_refused_run_is_json_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    value = json.loads(json.dumps(facts_json(facts_of(tmp_path, monkeypatch, "model.max_length=99", rows="a,\n"))))
    assert (value["ok"], value["can_begin"], value["rows"], value["total"]) == (False, False, None, None)
    assert len(value["problems"]) == 2
