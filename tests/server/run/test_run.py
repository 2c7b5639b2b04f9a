"""A run is opened, gone on with, finished and closed in one place, and its folder is free again whatever happened."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.config.tables import ClassConfig
from fedcore.core.config.toml import parse_config, to_toml
from fedcore.core.contract.protocols import Json, Strategy
from fedcore.core.errors import RunError
from fedcore.core.model.adapter import initial_adapter
from fedcore.core.rounds.result import MemberResult, MemberStatus, RoundResult
from fedcore.core.rounds.state import Phase
from fedcore.core.seeds import generator
from fedcore.server.run.journal import read_events
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.server.run.turn_record import LedgerState, TurnRecord
from fedcore.strategies.table import make_strategy
from tests.server.conftest import TinyModel
from tests.tiny_run import tiny_config

HEAD = (("head.bias", (2,)), ("head.weight", (2, 12)))


def begun(root: Path, tiny: TinyModel, *overrides: str) -> Run:
    root.mkdir(exist_ok=True)
    return Run.create(RunFolder(root), tiny_config(tiny.folder, overrides), tiny.folder)


def resumed(root: Path, tiny: TinyModel) -> Run:
    return Run.resume(RunFolder(root), tiny.folder)


def commit(run: Run, number: int | None, *, void: bool = False, classes: tuple[str, ...] = ()) -> None:
    """Close round `number` and plan the next; None plans the first."""
    closed = None
    if number is not None:
        member = MemberResult(device="a", status=MemberStatus.ACCEPTED, pushed_at_s=1.0, accepted_at_s=2.0)
        closed = RoundResult(round=number, void=void, members=(member,), opened_at_s=1.0, closed_at_s=4.5)
    run.ledger.commit_turn(
        TurnRecord(
            closed=closed,
            outcomes=[{"class": name, "status": "lost", "peak_memory_mb": None, "steps": 1} for name in classes],
            strategy_state={},
            global_blobs=(),
            void_streak=int(void),
            next_round=1 if number is None else number + 1,
        )
    )


def strategy_of(run: Run, tiny: TinyModel) -> Strategy:
    return make_strategy(run.config, tiny.geometry, HEAD)


def test_a_new_run_writes_its_configuration_and_begins_its_ledger(tiny: TinyModel, tmp_path: Path) -> None:
    with begun(tmp_path / "run", tiny) as run:
        assert parse_config(run.folder.config.read_text()) == run.config
        assert run.start == LedgerState(
            run_id=run.start.run_id,
            config_toml=to_toml(run.config),
            fingerprint=tiny.mark.combined,
            labels=(),
            next_round=1,
            void_streak=0,
            void_rounds=0,
            strategy_state=None,
            global_blobs=(),
            assignments=(),
        )
        state = run.round_state(lease_s=7.0)
        assert (state.phase, state.round, state.void_rounds) == (Phase.WAITING, 1, 0)
        assert state.policy.lease_s == 7.0 and state.policy.total_rounds == 2 and state.policy.min_devices == 2
        with pytest.raises(RunError, match="is in use by a running coordinator"):
            resumed(tmp_path / "run", tiny)


def test_a_run_is_not_begun_over_another(tiny: TinyModel, tmp_path: Path) -> None:
    begun(tmp_path / "run", tiny).close()
    with pytest.raises(RunError, match="exists: continue that run with --resume"):
        begun(tmp_path / "run", tiny)
    resumed(tmp_path / "run", tiny).close()


def test_a_run_goes_on_after_its_last_commit_and_drops_lines_of_what_never_closed(
    tiny: TinyModel, tmp_path: Path
) -> None:
    with begun(tmp_path / "run", tiny, "run.rounds=5") as run:
        run.open_log(wall=lambda: 1.0)
        commit(run, None)
        commit(run, 1)
        commit(run, 2, void=True)
        for number in (1, 2, 3):
            run.log.event("pushed", device="a", round=number)
    with resumed(tmp_path / "run", tiny) as run:
        assert (run.start.next_round, run.start.void_rounds) == (3, 1)
        run.open_log(wall=lambda: 2.0)
        assert [event["round"] for event in read_events(run.folder.events)] == [1, 2]
        run.log.event("started", next_round=3)
        state = run.round_state(lease_s=1.0)
        assert (state.round, state.void_streak, state.void_rounds) == (3, 1, 1)
    assert [event["t"] for event in read_events(run.folder.events)] == [1.0, 1.0, 2.0]


@given(total=st.integers(1, 9), closed=st.integers(0, 12), void=st.integers(0, 4), streak=st.integers(0, 4))
def test_the_machine_goes_on_where_the_ledger_stands(total: int, closed: int, void: int, streak: int) -> None:
    """Void rounds are numbered and do not count; a streak that paused the run begins anew."""
    finished = closed >= total
    start = LedgerState(
        run_id="r",
        config_toml="",
        fingerprint="",
        labels=(),
        next_round=None if finished else min(closed, total) + void + 1,
        void_streak=streak,
        void_rounds=void,
        strategy_state={},
        global_blobs=(),
        assignments=(),
    )
    run = object.__new__(Run)
    run.config, run.start = tiny_config(Path("model"), [f"run.rounds={total}"]), start
    state = run.round_state(lease_s=1.0)
    assert state.round == min(closed, total) + void + 1 and state.is_last == finished
    assert state.void_streak == (0 if streak >= state.policy.max_void_rounds else streak)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("finished", "has finished; look at"),
        ("model", "was begun with another base model than"),
        ("edited", r"has other values than the run began with: run\.seed, training\.batch_size; put them back"),
        ("config", "cannot read"),
    ],
)
def test_a_run_that_cannot_go_on_says_why_and_leaves_its_folder_free(
    wrong: str, words: str, tiny: TinyModel, wide: TinyModel, tmp_path: Path
) -> None:
    root = tmp_path / "run"
    with begun(root, tiny) as run:
        if wrong == "finished":
            commit(run, None)
            closed = RoundResult(round=1, void=False, members=(), opened_at_s=1.0, closed_at_s=4.5)
            run.ledger.commit_turn(
                TurnRecord(closed=closed, strategy_state={}, global_blobs=(), void_streak=0, next_round=None)
            )
            run.folder.summary.write_text("{}")
    config = run.folder.config.read_text()
    if wrong == "edited":
        text = to_toml(parse_config(config, ["run.seed=5", "training.batch_size=3", "coordinator.lease_s=9.0"]))
        run.folder.config.write_text(text)
    if wrong == "config":
        run.folder.config.unlink()
    with pytest.raises(RunError, match=words):
        Run.resume(run.folder, (wide if wrong == "model" else tiny).folder)
    run.folder.config.write_text(config)
    run.folder.summary.unlink(missing_ok=True)
    resumed(root, tiny).close()


def test_places_and_limits_may_change_between_two_parts_of_a_run(tiny: TinyModel, tmp_path: Path) -> None:
    with begun(tmp_path / "run", tiny) as run:
        text = to_toml(parse_config(to_toml(run.config), ['data.train="elsewhere"', "coordinator.lease_s=9.0"]))
    run.folder.config.write_text(text)
    with resumed(tmp_path / "run", tiny) as again:
        assert (again.config.data.train, again.config.coordinator.lease_s) == ("elsewhere", 9.0)


def test_a_log_is_opened_before_it_is_written(tiny: TinyModel, tmp_path: Path) -> None:
    with begun(tmp_path / "run", tiny) as run:
        with pytest.raises(RuntimeError, match="not open yet"):
            _ = run.log
        assert run.open_log() is run.log


def test_a_newcomer_is_told_of_the_run_and_served_the_models_files(tiny: TinyModel, tmp_path: Path) -> None:
    with begun(tmp_path / "run", tiny) as run:
        described = run.describe()
        assert described.fingerprint == tiny.mark and described.labels == ("a", "b")
        assert (described.run_id, described.max_length) == (run.start.run_id, 8)
        assert [ref.name for ref in described.model_files] == ["config.json", "model.safetensors", "tokenizer.json"]
        for ref in described.model_files:
            assert run.blobs.read_bytes(ref.id) == (tiny.folder / ref.name).read_bytes()
        run.ledger.set_meta("labels", ["x", "y", "z"])
    with resumed(tmp_path / "run", tiny) as run:
        assert run.describe().labels == ("x", "y", "z"), "labels that the first shard fixed outlast the process"


# --- the end ---


def finished(run: Run, tiny: TinyModel, *here: str, trained: bool = True) -> Json:
    strategy = strategy_of(run, tiny)
    tensors = initial_adapter(strategy.spec, generator(0)) if trained else None
    return run.finish(strategy, strategy.start(), tensors, here=here)


def test_a_finished_run_leaves_its_summary_and_its_adapter(tiny: TinyModel, tmp_path: Path) -> None:
    with begun(tmp_path / "run", tiny) as run:
        run.open_log()
        commit(run, None)
        commit(run, 1, classes=("tablet",))
        run.config = replace(run.config, classes=(ClassConfig(name="phone", count=1),))
        summary = finished(run, tiny, "watch", "phone")
    assert json.loads(run.folder.summary.read_text()) == summary
    assert list(summary["classes"]) == ["phone", "tablet", "watch"], "configured, took part, or have been here"
    assert summary["run"]["status"] == "finished" and summary["totals"]["steps"] == 1
    assert sorted(path.name for path in run.folder.adapter.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "head.safetensors",
    ]
    assert [event["event"] for event in read_events(run.folder.events)] == ["finished"]


def test_a_run_that_trained_nothing_leaves_no_adapter(tiny: TinyModel, tmp_path: Path) -> None:
    with begun(tmp_path / "run", tiny) as run:
        run.open_log()
        finished(run, tiny, trained=False)
    assert run.folder.summary.is_file() and not run.folder.adapter.exists()


def test_a_run_that_breaks_off_gives_its_folder_back(tiny: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), begun(tmp_path / "run", tiny) as run:
        run.open_log()
        run.log.event("pushed", device="a")
        raise KeyboardInterrupt
    with resumed(tmp_path / "run", tiny) as again:
        assert again.start.run_id == run.start.run_id
