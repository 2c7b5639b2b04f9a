"""docs/reference/configuration.md and docs/fedcore.schema.json say what the tables say; so do the lists beside them."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from fedcore.core.aggregation.table import AGGREGATORS
from fedcore.core.config.generate import PAGE, SCHEMA, generated
from fedcore.core.config.toml import parse_config
from fedcore.strategies.table import STRATEGIES

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", [PAGE, SCHEMA])
def test_what_is_made_from_the_tables_is_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == generated(ROOT)[name]


@pytest.mark.parametrize(("heading", "names"), [("Strategies", STRATEGIES), ("Aggregators", AGGREGATORS)])
def test_every_name_is_explained(heading: str, names: Mapping[str, object]) -> None:
    _, found, rest = (ROOT / PAGE).read_text(encoding="utf-8").partition(f"### {heading}\n")
    assert found
    assert set(re.findall(r"^\| `([\w-]+)` \|", rest.partition("\n#")[0], re.MULTILINE)) == set(names)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.toml")), ids=lambda path: path.name)
def test_every_example_is_a_valid_configuration(path: Path) -> None:
    config = parse_config(path.read_text(encoding="utf-8"))
    assert sum(each.count for each in config.classes) >= config.coordinator.min_devices
