from pathlib import Path

import pytest

from fedcore.core.config.generate import PAGE, ROOT, SCHEMA, main, stale


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    (tmp_path / PAGE).parent.mkdir(parents=True)
    for name in (PAGE, SCHEMA):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    return tmp_path


def test_a_stale_file_is_named_and_written_anew(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert stale(copy) == []
    fresh = (copy / PAGE).read_text(encoding="utf-8")
    (copy / PAGE).write_text(fresh.replace("| at least 2 |", "| at least 3 |"), encoding="utf-8")
    (copy / SCHEMA).unlink()
    assert stale(copy) == [SCHEMA, PAGE]
    assert main(["--check"], copy) == 1
    assert capsys.readouterr().err == f"stale: {SCHEMA}, {PAGE}; run python -m fedcore.core.config.generate\n"
    assert not (copy / SCHEMA).exists()
    assert main([], copy) == 0
    assert main(["--check"], copy) == 0
    assert (copy / PAGE).read_text(encoding="utf-8") == fresh
