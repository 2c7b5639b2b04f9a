import sys
from pathlib import Path

import pytest

from fedcore.client.device import model_check
from fedcore.client.device.model_check import check_model
from fedcore.core.errors import ModelError
from fedcore.nn.accelerator.present import accelerators
from tests.tiny_models import tiny_model

LABELS = ("süß", "-größe")


def test_a_sound_model_passes_whatever_its_labels_are(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "größe", "bert")
    assert check_model(folder, labels=LABELS, head="auto", dtype="float32") == accelerators()


def test_what_cannot_be_loaded_is_told_as_a_device_would(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "größe", "bert")
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"größe: no usable tokenizer"):
        check_model(folder, labels=LABELS, head="auto", dtype="float32")


def test_a_library_that_cannot_be_imported_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("raise OSError('libtorch.so: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ModelError, match=r"a client library cannot be imported: libtorch\.so: cannot open"):
        check_model(tmp_path, labels=LABELS, head="auto", dtype="float32")


def test_a_library_that_kills_its_process_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ModelError, match=r"ended with SIGKILL: without a word"):
        check_model(tmp_path, labels=LABELS, head="auto", dtype="float32")


def test_a_model_that_takes_for_ever_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_check, "DEADLINE_S", 0.01)
    with pytest.raises(ModelError, match="takes longer than 0 s"):
        check_model(tmp_path, labels=LABELS, head="auto", dtype="float32")


def test_it_is_tried_by_this_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "none"))
    with pytest.raises(FileNotFoundError):
        check_model(tmp_path, labels=LABELS, head="auto", dtype="float32")
