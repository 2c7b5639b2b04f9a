import subprocess
import sys
from pathlib import Path

import pytest

from fedcore.protos.generate import ROOT, SOURCES, generate, main, stale


def test_the_committed_code_is_what_the_protos_say() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fedcore.protos.generate", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_file_has_code_and_types_and_only_services_a_stub(tmp_path: Path) -> None:
    generate(tmp_path)
    names = {path.name for path in (tmp_path / "fedcore/protos/v1").iterdir()}
    stems = {Path(source).stem for source in SOURCES}
    stubs = {"enrolment_pb2_grpc.py", "fleet_pb2_grpc.py"}
    assert names == {f"{stem}_pb2.py" for stem in stems} | {f"{stem}_pb2.pyi" for stem in stems} | stubs
    assert stale(tmp_path) == []


def test_a_difference_and_a_missing_file_are_stale(tmp_path: Path) -> None:
    folder = tmp_path / "fedcore/protos/v1"
    folder.mkdir(parents=True)
    (folder / "blob_pb2.py").write_text("# other\n")
    (folder / "unheard_pb2.py").write_text("")
    assert stale(tmp_path) == ["fedcore/protos/v1/blob_pb2.py", "fedcore/protos/v1/unheard_pb2.py"]


def test_check_fails_and_names_what_is_stale(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write_other(target: Path) -> None:
        (target / "fedcore/protos/v1").mkdir(parents=True)
        (target / "fedcore/protos/v1/blob_pb2.py").write_text("# other\n")

    monkeypatch.setattr("fedcore.protos.generate.generate", write_other)
    assert main(["--check"]) == 1
    assert capsys.readouterr().err == (
        "stale generated code: fedcore/protos/v1/blob_pb2.py; run python -m fedcore.protos.generate\n"
    )
