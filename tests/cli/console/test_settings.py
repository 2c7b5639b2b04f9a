"""Options that several subcommands share: what they accept, and what they say of the rest."""

import math
import os
import urllib.request
from pathlib import Path

import pytest
import typer

from fedcore.cli.console.settings import (
    addresses,
    check_resume_alone,
    finite_seconds,
    read_config,
    serving_metrics,
    tls_material,
)
from fedcore.core.errors import CertificateError, ConfigError
from fedcore.storage.pki.authority import create_authority, issue


@pytest.mark.parametrize("value", [0.0, 0.5, 1e9])
def test_a_time_of_any_length_is_taken(value: float) -> None:
    assert finite_seconds(value) == value


@pytest.mark.parametrize("value", [-0.1, math.inf, math.nan])
def test_a_time_that_never_ends_or_has_passed_is_wrong_usage(value: float) -> None:
    with pytest.raises(typer.BadParameter, match="expected seconds, 0 or more"):
        finite_seconds(value)


def test_a_configuration_is_read_with_overrides_and_absolute_paths(place: Path) -> None:
    config = read_config(Path("cfg.toml"), ["run.rounds=7"])
    assert config.run.rounds == 7
    assert config.data.train == str((place / "rows.csv").resolve())
    assert config.model.path == str((place / "model").resolve())
    assert config.data.test == ""


def test_a_configuration_that_cannot_be_read_is_named(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"give a configuration file, or --resume DIR"):
        read_config(None, None)
    with pytest.raises(ConfigError, match=r"no configuration file none\.toml; examples/quickstart\.toml"):
        read_config(Path("none.toml"), None)
    with pytest.raises(ConfigError, match=r"cfg\.toml: unknown config key run\.round; did you mean run\.rounds\?"):
        read_config(Path("cfg.toml"), ["run.round=1"])
    (place / "latin.toml").write_bytes(b'[run]\nname = "\xfc"\n')
    with pytest.raises(ConfigError, match=r"cannot read latin\.toml"):
        read_config(Path("latin.toml"), None)


def test_addresses_keep_their_order_and_lose_repetitions() -> None:
    assert addresses("b:2, a:1,b:2", "upstream") == ("b:2", "a:1")
    with pytest.raises(ConfigError, match=r"upstream: expected HOST:PORT, for example coord\.example:8443"):
        addresses("b:2,here", "upstream")


@pytest.mark.parametrize(("config", "overrides"), [(Path("cfg.toml"), None), (None, ["run.rounds=1"])])
def test_a_resumed_run_keeps_its_own_configuration(config: Path | None, overrides: list[str] | None) -> None:
    check_resume_alone(None, None)
    with pytest.raises(ConfigError, match="leave out the file and --set"):
        check_resume_alone(config, overrides)


def test_metrics_are_served_inside_the_block_only(capsys: pytest.CaptureFixture[str]) -> None:
    with serving_metrics("") as metrics:
        assert metrics is None
    with serving_metrics("127.0.0.1:0") as metrics:
        url = capsys.readouterr().err.removeprefix("metrics: ").strip()
        assert metrics is not None
        assert urllib.request.urlopen(url, timeout=5).status == 200
    with pytest.raises(OSError):
        urllib.request.urlopen(url, timeout=5)


def test_tls_is_left_out_only_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    create_authority(tmp_path)
    issue(tmp_path, "north", kind="edge")
    assert tls_material(tmp_path, "north", False, kinds=("edge",)) is not None
    with pytest.raises(CertificateError, match="is for edge:north, expected kind device"):
        tls_material(tmp_path, "north", False, kinds=("device",))
    assert capsys.readouterr().err == ""
    assert tls_material(None, "north", True) is None
    assert "WARNING: --insecure" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="give --certs FOLDER"):
        tls_material(None, "north", False)
    with pytest.raises(ConfigError, match="contradict each other"):
        tls_material(tmp_path, "north", True)


def test_a_configuration_nested_too_deep_is_named(tmp_path: Path) -> None:
    path = tmp_path / "deep.toml"
    path.write_text("a = " + "[" * 100_000, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"deep\.toml: ") as caught:
        read_config(path, None)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", "größe = 1".encode("latin-1"), bytes(64), b"[run"])
def test_whatever_is_in_a_file_is_an_error_of_ours_or_a_configuration(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(content)
    if content:
        with pytest.raises(ConfigError, match=r"c\.toml"):
            read_config(path, None)
    else:
        assert read_config(path, None).run.rounds > 0


def test_a_path_that_no_configuration_can_hold_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "rows.csv").touch()
    path = tmp_path / "c.toml"
    path.touch()
    with pytest.raises(ConfigError, match=r"train = .*caf\\udce9.*expected UTF-8; rename"):
        read_config(path, [f"data.train={folder / 'rows.csv'}"])


def test_a_working_folder_that_no_configuration_can_hold_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    (folder / "rows.csv").touch()
    (folder / "c.toml").write_text('[data]\ntrain = "rows.csv"\n', encoding="utf-8")
    monkeypatch.chdir(folder)
    with pytest.raises(ConfigError, match=r"train = .*caf\\udce9.*expected UTF-8; rename"):
        read_config(Path("c.toml"), None)
