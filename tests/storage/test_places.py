import os
import pwd
from pathlib import Path

import pytest

from fedcore.core.errors import ConfigError
from fedcore.storage.models.cache import cache_folder
from fedcore.storage.places import home_folder, local_path


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process under a user id that passwd does not know, without HOME."""

    def unknown(key: object) -> object:
        raise KeyError(key)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("FEDCORE_CACHE", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(pwd, "getpwnam", unknown)


@pytest.mark.usefixtures("nobody")
def test_without_a_home_the_message_says_what_to_give_instead() -> None:
    with pytest.raises(ConfigError, match=rf"HOME is not set, and user id {os.getuid()} has none in passwd; give it$"):
        home_folder("give it")
    with pytest.raises(ConfigError, match="set FEDCORE_CACHE to a folder"):
        cache_folder()


@pytest.mark.usefixtures("nobody")
def test_a_cache_below_a_home_that_is_not_there_is_no_folder_called_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    for below_home in ("~", "~/cache"):
        monkeypatch.setenv("FEDCORE_CACHE", below_home)
        with pytest.raises(ConfigError, match="no home folder"):
            cache_folder()
    monkeypatch.setenv("FEDCORE_CACHE", "/elsewhere")
    assert cache_folder() == Path("/elsewhere")


def test_home_is_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("FEDCORE_CACHE", raising=False)
    assert home_folder("") == Path("/home/me")
    assert local_path("~/rows.csv") == Path("/home/me/rows.csv")
    assert cache_folder() == Path("/home/me/.cache/fedcore")
    monkeypatch.setenv("FEDCORE_CACHE", "~/mine")
    assert cache_folder() == Path("/home/me/mine")


def test_a_home_that_is_no_whole_path_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "somewhere")
    with pytest.raises(ConfigError, match="HOME is somewhere"):
        home_folder("")


def test_a_name_that_begins_like_a_home_is_a_name() -> None:
    assert local_path("~no-such-user.csv") == Path("~no-such-user.csv")
