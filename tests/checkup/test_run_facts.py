"""A run examined before it begins: its facts, and all that stops it, at once and in the run's own words."""

from pathlib import Path

import pytest

import fedcore.checkup.run_facts as run_facts
from fedcore.core.config.toml import parse_config
from fedcore.core.errors import ModelError
from fedcore.local_fleet.preflight import ready_fleet
from tests.checkup.checked_runs import CONFIG, facts_of


def test_a_run_that_can_begin_has_all_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of(tmp_path, monkeypatch)
    assert (facts.problems, facts.doubts, facts.can_begin, facts.command) == ((), (), True, "fleet")
    assert facts.config.data.labels == ("neg", "pos")
    assert facts.rows is not None and facts.cost is not None
    assert [device.device for device in facts.rows.devices] == ["agx-0", "agx-1", "tx2-0"]
    assert sum(device.rows for device in facts.rows.devices) == facts.rows.rows == 40 - facts.rows.held_back
    assert [kind.name for kind in facts.classes] == ["agx", "tx2"] and facts.cost.rounds == 4


def test_rows_are_those_that_a_fleet_deals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of(tmp_path, monkeypatch, "data.partition=dirichlet", "data.alpha=0.3", "data.shards=7")
    ready = ready_fleet(
        parse_config(CONFIG.format(folder=tmp_path), ["data.partition=dirichlet", "data.alpha=0.3", "data.shards=7"])
    )
    assert facts.rows == ready.rows() and facts.rows is not None
    assert sum(device.rows for device in facts.rows.devices) < facts.rows.rows, "four shards have no device"


def test_faults_of_model_and_data_are_told_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of(tmp_path, monkeypatch, "model.max_length=99", rows="a,x\n,y\nb,\n")
    assert not facts.can_begin and facts.rows is None and facts.classes == ()
    length, rows = facts.problems
    assert length == "model.max_length is 99, but this model reads at most 8 tokens"
    assert "line 3: column 'text' is empty" in rows and "line 4: label column 'label' is empty" in rows


def test_a_broken_file_does_not_hide_what_classes_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of(tmp_path, monkeypatch, "fleet.class.tx2.memory_mb=1", rows="a;x\n")
    assert len(facts.classes) == 2 and facts.rows is None and len(facts.problems) == 2
    assert facts.problems[1].startswith("device tx2-0 of class tx2: training needs ")


def test_a_class_that_cannot_join_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of(tmp_path, monkeypatch, "fleet.class.tx2.memory_mb=1")
    assert facts.can_begin and facts.rows is not None
    (problem,) = facts.problems
    assert problem.startswith("device tx2-0 of class tx2: training needs ")
    stopped = facts_of(tmp_path, monkeypatch, "fleet.class.tx2.memory_mb=1", "coordinator.min_devices=3")
    assert not stopped.can_begin
    (problem,) = stopped.problems
    assert problem.endswith("; 2 of 3 devices would be left, coordinator.min_devices=3"), "the reason is not repeated"


def test_too_few_rows_are_told_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of(tmp_path, monkeypatch, "fleet.class.agx.count=50")
    (problem,) = facts.problems
    assert "training rows are too few for 51 devices" in problem
    assert facts.rows is not None and facts.rows.devices == () and facts.rows.labels.keys() == {"neg", "pos"}


def test_a_run_without_classes_is_told_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = parse_config(CONFIG.format(folder=tmp_path).partition("[[fleet.class]]")[0])
    facts_of(tmp_path, monkeypatch)  # writes the files
    facts = run_facts.examine_run(config)
    assert facts.problems == ("a fleet needs devices: add [[fleet.class]] tables to the configuration",)
    assert facts.rows is not None and facts.classes == () and facts.cost is None
    assert facts.doubts == (run_facts.SERVED,)


def test_a_model_that_no_device_could_load_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts_of(tmp_path, monkeypatch)

    def refuse(config: object) -> None:
        raise ModelError("the tokenizer is damaged")

    monkeypatch.setattr(run_facts, "try_model", refuse)
    facts = run_facts.examine_run(parse_config(CONFIG.format(folder=tmp_path)))
    assert facts.problems == ("the tokenizer is damaged",) and not facts.can_begin and facts.rows is not None


def test_a_run_that_only_a_simulation_can_carry_out_is_judged_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = facts_of(tmp_path, monkeypatch, "simulation.training=none", "fleet.class.agx.count=900")
    assert (facts.command, facts.problems, facts.rows) == ("simulate", (), None)
    assert facts.classes[0].count == 900 and facts.cost is not None


def test_doubts_are_told_and_stop_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "".join(f"text number {number},{('neg', 'Neg', 'pos')[number % 3]}\n" for number in range(40))
    facts = facts_of(tmp_path, monkeypatch, rows=rows)
    assert facts.can_begin and facts.problems == ()
    (doubt,) = facts.doubts
    assert doubt.startswith("warning: labels 'Neg' (")


def test_settings_that_the_strategy_overrules_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = facts_of(tmp_path, monkeypatch, "strategy.name=hetlora", "strategy.target_sparsity=0.3")
    assert facts.doubts == ("under strategy hetlora, strategy.target_sparsity is 0.0, not 0.3",)
    (agx, tx2) = facts.classes
    assert agx.ranks == tx2.ranks == (2, 4), "also where the method gives a class one of them"
    unknown = facts_of(tmp_path, monkeypatch, "strategy.name=nobody")
    assert len(unknown.problems) == 1 and "nobody" in unknown.problems[0]
