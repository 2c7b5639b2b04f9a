import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedcore.core.errors import ConfigError, ModelError
from fedcore.storage.models.model_source import model_folder

HUB = "huggingface_hub.snapshot_download"


def hub(monkeypatch: pytest.MonkeyPatch, answer: Callable[..., str]) -> None:
    """Put `answer` in the place of the hub."""
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(HUB, answer)


def test_a_local_folder_is_itself(tmp_path: Path) -> None:
    assert model_folder(str(tmp_path)) == tmp_path


def test_a_file_is_not_the_folder(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ModelError, match=r"model.safetensors is a file; give the folder that holds config.json"):
        model_folder(str(file))


@pytest.mark.parametrize("spec", ["./nowhere", "/no/such/folder", "~/no/such/model", "a/b/c", ""])
def test_a_missing_folder_is_named_without_a_network(spec: str) -> None:
    with pytest.raises(ModelError, match=r"no such file or folder; check \[model\]"):
        model_folder(spec)


def test_what_was_not_fetched_yet_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FEDCORE_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match=r"minilm is not in the cache .*; run `fedcore fetch minilm`"):
        model_folder("fetch:minilm")
    with pytest.raises(ConfigError, match="did you mean minilm"):
        model_folder("fetch:minilmm")
    with pytest.raises(ConfigError, match="fetch:movies is a data, expected model"):
        model_folder("fetch:movies")


def test_a_hub_id_is_downloaded_without_its_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, Any] = {}

    def answer(repository: str, **options: Any) -> str:
        asked.update(options, repository=repository)
        return str(tmp_path)

    hub(monkeypatch, answer)
    assert model_folder("owner/name") == tmp_path
    assert asked["repository"] == "owner/name"
    assert "*.safetensors" in asked["allow_patterns"]
    assert not any(pattern.endswith((".py", ".bin", ".pkl", "*")) for pattern in asked["allow_patterns"])


@pytest.mark.parametrize("cause", [OSError("no network\nmore"), OSError(), ConnectionError("refused")])
def test_a_hub_that_cannot_be_reached_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch, cause: OSError) -> None:
    def answer(repository: str, **options: Any) -> str:
        raise cause

    hub(monkeypatch, answer)
    with pytest.raises(ModelError, match="owner/name: neither a local folder nor to be had from the hub") as caught:
        model_folder("owner/name")
    assert "\n" not in str(caught.value)


def test_a_bad_hub_id_is_told_by_the_hub_s_own_check() -> None:
    pytest.importorskip("huggingface_hub")
    with pytest.raises(ModelError, match="neither a local folder nor to be had from the hub"):
        model_folder("not a hub id!")


def test_without_the_client_s_packages_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ModelError, match=r"is no local folder; .* install fedcore\[client\], or give a folder"):
        model_folder("owner/name")


def test_a_gguf_file_and_a_folder_of_them_can_be_converted(tmp_path: Path) -> None:
    file = tmp_path / "my model" / "q4.GGUF"
    file.parent.mkdir()
    file.write_bytes(b"GGUF")
    command = rf"convert it once with: fedcore fetch '{file}', and give the folder that this names"
    with pytest.raises(ModelError, match=rf"q4\.GGUF is a GGUF file; {command}"):
        model_folder(str(file))
    file.rename(file.with_suffix(".gguf"))
    with pytest.raises(ModelError, match=r"my model holds a model as GGUF alone; convert it once with: fedcore fetch"):
        model_folder(str(file.parent))
    (file.parent / "config.json").write_text("{}")
    assert model_folder(str(file.parent)) == file.parent


def test_a_gguf_file_that_is_not_there_is_no_hub_id() -> None:
    with pytest.raises(ModelError, match=r"q4\.gguf: no such file or folder"):
        model_folder("q4.gguf")


@pytest.mark.parametrize("cause", [ValueError("invalid literal for int() with base 10: 'abc'"), RuntimeError("closed")])
def test_whatever_the_hub_s_library_raises_is_told(monkeypatch: pytest.MonkeyPatch, cause: Exception) -> None:
    def answer(repository: str, **options: Any) -> str:
        raise cause

    hub(monkeypatch, answer)
    with pytest.raises(ModelError, match=r"owner/name: neither .* from the hub \((invalid literal|closed)"):
        model_folder("owner/name")


def test_a_hub_library_that_cannot_be_imported_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "huggingface_hub.py").write_text("raise ValueError('HF_SOMETHING is not a number')")
    for name in [each for each in sys.modules if each.split(".")[0] == "huggingface_hub"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=r"cannot be imported \(HF_SOMETHING is not a number\)"):
        model_folder("owner/name")
