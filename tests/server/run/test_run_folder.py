"""Where a run lies, and that no run overwrites another."""

from pathlib import Path

import pytest

from fedcore.core.config.tables import Config
from fedcore.core.config.toml import to_toml
from fedcore.core.errors import RunError
from fedcore.server.run.run_folder import RunFolder, stored_config


def test_runs_of_one_name_get_folders_of_their_own(tmp_path: Path) -> None:
    made = [RunFolder.create("demo", base=tmp_path / "runs").root.name for _ in range(3)]
    assert made == ["demo", "demo-2", "demo-3"]
    assert RunFolder.create("other", base=tmp_path / "runs").root.name == "other"


def test_the_newest_run_is_the_last_that_has_begun(tmp_path: Path) -> None:
    assert RunFolder.newest("demo", base=tmp_path / "absent") is None
    folders = [RunFolder.create("demo", base=tmp_path) for _ in range(11)]
    assert RunFolder.newest("demo", base=tmp_path) is None, "a folder alone is no run"
    for folder in (folders[0], folders[1], folders[9]):
        folder.ledger.write_bytes(b"")
    for strange in ("demo-old", "demo-012", "demo-99-2", "demons"):
        (tmp_path / strange).mkdir()
        RunFolder(tmp_path / strange).ledger.write_bytes(b"")
    newest = RunFolder.newest("demo", base=tmp_path)
    assert newest is not None and newest.root.name == "demo-10", "by number, not by spelling"


def test_a_chosen_folder_must_be_empty(tmp_path: Path) -> None:
    chosen = tmp_path / "deep" / "mine"
    for _ in range(2):
        assert RunFolder.create("demo", base=tmp_path / "runs", chosen=chosen).root == chosen
    (chosen / "config.toml").write_text("x")
    with pytest.raises(
        RunError, match=f"exists and is not empty; choose a new folder, or go on with --resume {chosen}"
    ):
        RunFolder.create("demo", base=tmp_path / "runs", chosen=chosen)
    assert not (tmp_path / "runs").exists()


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="exists and is not empty"):
        RunFolder.create("demo", base=tmp_path, chosen=tmp_path / "file")


def test_only_a_folder_with_a_configuration_is_a_run(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RunError, match=r"is not a run folder \(no config.toml in it\); give a folder such as"):
            RunFolder.existing(root)
    (tmp_path / "config.toml").write_text("")
    assert RunFolder.existing(tmp_path) == RunFolder(tmp_path)


def began_and_failed(folder: RunFolder, events: str = "") -> None:
    """A run that leaves files behind and fails, after `events` or before any."""
    with pytest.raises(KeyboardInterrupt), folder.withdrawn_unless_begun():
        folder.events.write_text(events)
        folder.data.mkdir()
        (folder.data / "rows.jsonl").write_text("{}")
        raise KeyboardInterrupt


def test_what_fails_before_its_first_event_leaves_nothing(tmp_path: Path) -> None:
    began_and_failed(RunFolder.create("demo", base=tmp_path / "work" / "runs"))
    assert not list(tmp_path.iterdir()), "the folders around it were made for it too"
    began_and_failed(RunFolder.create("demo", base=tmp_path, chosen=tmp_path / "a" / "b"))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_was_there_stays_empty_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    began_and_failed(RunFolder.create("demo", base=tmp_path, chosen=tmp_path / "mine"))
    assert list(tmp_path.iterdir()) == [tmp_path / "mine"] and not list((tmp_path / "mine").iterdir())


def test_another_run_is_never_touched(tmp_path: Path) -> None:
    first = RunFolder.create("demo", base=tmp_path / "runs")
    began_and_failed(RunFolder.create("demo", base=tmp_path / "runs"))
    assert list((tmp_path / "runs").iterdir()) == [first.root]
    earlier = RunFolder(first.root)  # resumed, or made by a fleet for its coordinator
    began_and_failed(earlier)
    assert earlier.data.is_dir() and not earlier.has_begun


def test_a_run_that_did_begin_stays_whole(tmp_path: Path) -> None:
    folder = RunFolder.create("demo", base=tmp_path)
    began_and_failed(folder, events='{"t":0,"event":"started"}\n')
    assert folder.has_begun and (folder.data / "rows.jsonl").is_file()


def test_what_goes_well_stays_without_an_event(tmp_path: Path) -> None:
    folder = RunFolder.create("demo", base=tmp_path)
    with folder.withdrawn_unless_begun():
        pass
    assert folder.root.is_dir() and not folder.has_begun


def test_every_place_lies_inside_and_none_twice(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    names = [name for name, value in vars(RunFolder).items() if isinstance(value, property) and name != "has_begun"]
    places = [getattr(folder, name) for name in names]
    assert len(set(places)) == len(places) >= 12 and all(place.parent == tmp_path for place in places)


def test_a_run_that_began_before_a_key_existed_goes_on_without_it() -> None:
    assert stored_config('[strategy]\npace = "filter"\n').strategy.spare_time == "wait"
    assert stored_config("").strategy.spare_time == "wait"
    assert stored_config('[strategy]\nspare_time = "train"\n').strategy.spare_time == "train"
    assert stored_config(to_toml(Config())) == Config()
