"""docs/reference/configuration.md says what fedcore/core/config/tables.py does: every key, every default."""

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from fedcore.core.config.tables import ClassConfig, Config
from fedcore.core.config.toml import TABLES, parse_config

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "configuration.md"
ROW = re.compile(r"^\| `(\w+)` \| (?:`(.+?)`)? ?\|", re.MULTILINE)
KINDS: dict[str, Any] = {name: type(getattr(Config(), name)) for name in TABLES} | {"fleet.class": ClassConfig}


def section(name: str) -> str:
    heading = f"## [[{name}]]" if name == "fleet.class" else f"## [{name}]"
    _, found, rest = PAGE.read_text().partition(heading + "\n")
    assert found, f"docs/reference/configuration.md has no section {heading}"
    return rest.partition("\n## ")[0]


@pytest.mark.parametrize("name", KINDS)
def test_every_key_stands_in_the_page_in_order(name: str) -> None:
    assert [key for key, _ in ROW.findall(section(name))] == [each.name for each in dataclasses.fields(KINDS[name])]


@pytest.mark.parametrize("name", KINDS)
def test_every_default_is_the_one_in_force(name: str) -> None:
    told = {key: tomllib.loads(f"value = {text}")["value"] for key, text in ROW.findall(section(name)) if text}
    real = {
        each.name: list(each.default) if isinstance(each.default, tuple) else each.default
        for each in dataclasses.fields(KINDS[name])
        if each.default is not dataclasses.MISSING and each.default is not None
    }
    assert told == real


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda path: path.name)
def test_every_example_is_a_valid_configuration(path: Path) -> None:
    config = parse_config(path.read_text())
    assert sum(each.count for each in config.classes) >= config.coordinator.min_devices
