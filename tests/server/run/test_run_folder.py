"""Where a run lies, and that no run overwrites another."""

from pathlib import Path

import pytest

from fedcore.core.errors import RunError
from fedcore.server.run.run_folder import RunFolder


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


def test_every_place_lies_inside_and_none_twice(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    names = [name for name, value in vars(RunFolder).items() if isinstance(value, property)]
    places = [getattr(folder, name) for name in names]
    assert len(set(places)) == len(places) >= 12 and all(place.parent == tmp_path for place in places)
