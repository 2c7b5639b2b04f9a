import os
import pwd
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from fedcore.storage.process.environment import CACHES, COUNTS, forgive_warnings, mend_environment, module_command


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process under a user id that passwd does not know, without HOME."""

    def unknown(key: object) -> object:
        raise KeyError(key)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", ["0", "-1", "abc", "", " ", "1.5", "4,x", "\u0661"])
def test_a_count_that_is_none_is_dropped(name: str, value: str) -> None:
    environment = {name: value, "OTHER": value}
    mend_environment(environment)
    assert environment == {"OTHER": value}


@pytest.mark.parametrize("value", ["1", "80", " 4 ", "4,2,1", "9" * 5000])
def test_a_count_stays(value: str) -> None:
    environment = {"COLUMNS": value, "OMP_NUM_THREADS": value}
    mend_environment(environment)
    assert environment == {"COLUMNS": value, "OMP_NUM_THREADS": value}


def test_with_a_home_libraries_keep_their_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    environment: dict[str, str] = {}
    mend_environment(environment)
    assert environment == {}


@pytest.mark.usefixtures("nobody")
def test_without_a_home_libraries_get_places_of_their_own() -> None:
    environment: dict[str, str] = {}
    mend_environment(environment)
    assert environment.pop("LOGNAME") == f"uid{os.getuid()}"
    assert set(environment) == set(CACHES)
    places = {Path(environment[name]).parent for name in CACHES}
    assert len(places) == 1 and not places.pop().exists(), "no folder is made before it is needed"
    again: dict[str, str] = {}
    mend_environment(again)
    assert again["HF_HOME"] != environment["HF_HOME"], "nobody else can have made it"


@pytest.mark.usefixtures("nobody")
def test_without_a_home_the_chosen_cache_serves_libraries_too() -> None:
    environment = {"FEDCORE_CACHE": "/cache", "HF_HOME": "/mine", "USER": "me"}
    mend_environment(environment)
    assert environment["HF_HOME"] == "/mine" and environment["TRITON_CACHE_DIR"] == "/cache/triton"
    assert "LOGNAME" not in environment


@pytest.mark.parametrize("asked", [["error"], ["error::DeprecationWarning"], ["default", "error:x"]])
def test_warnings_that_shall_be_errors_are_warnings(asked: list[str]) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("error")
        forgive_warnings(asked)
        warnings.warn("heard", UserWarning, stacklevel=1)
        warnings.warn("not heard", DeprecationWarning, stacklevel=1)
    assert [str(each.message) for each in heard] == ["heard"]


def test_other_wishes_about_warnings_stand() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        forgive_warnings(["ignore", "default::UserWarning"])
        with pytest.raises(UserWarning):
            warnings.warn("an error", UserWarning, stacklevel=1)


def test_a_module_runs_by_this_interpreter(tmp_path: Path) -> None:
    command = [*module_command("json.tool"), "--help"]
    assert command[0] == sys.executable
    assert ("-P" in command) is (sys.version_info >= (3, 11))
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
