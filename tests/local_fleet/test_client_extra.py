import sys

import pytest

from fedcore.core.config.toml import read_toml
from fedcore.core.errors import ConfigError
from fedcore.local_fleet.client_extra import CLIENT_MODULES, missing_client_modules, require_client


def test_here_everything_is_installed() -> None:
    assert missing_client_modules() == []
    require_client("this test")


def test_what_is_missing_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    assert missing_client_modules() == ["peft"]
    with pytest.raises(ConfigError, match=r"^fedcore join needs peft; install fedcore\[client\]: pip install"):
        require_client("fedcore join")


def test_the_modules_are_those_of_the_extra() -> None:
    from pathlib import Path

    project = read_toml((Path(__file__).parent.parent.parent / "pyproject.toml").read_text())["project"]
    extra = {each.split(">")[0] for each in project["optional-dependencies"]["client"]}
    assert set(CLIENT_MODULES) <= extra
