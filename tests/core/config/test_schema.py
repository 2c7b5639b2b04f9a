"""The schema that editors get takes what `parse_config` takes, and refuses what can be refused without it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings

from fedcore.core.config.keys import keys_of
from fedcore.core.config.kinds import automatic
from fedcore.core.config.schema import config_schema, schema_text
from fedcore.core.config.tables import TABLES, ClassConfig, Config
from fedcore.core.config.toml import parse_config, read_toml, to_toml
from fedcore.core.errors import ConfigError
from tests.core.config.test_toml import CONFIGS, MISTAKES

EXAMPLES = Path(__file__).parents[3] / "examples"
SCHEMA = config_schema()
CHECK = jsonschema.Draft7Validator(SCHEMA)
UNSAID = (  # what JSON Schema cannot state: fedcore says it when it reads the file
    "not valid TOML",
    "run.rounds: expected a whole number, got 2.0",  # to JSON, 2.0 is a whole number
    'training.learning_rate: expected a number or "auto", got 1000',  # and every number has its place
    "training.learning_rate must be above 0, got nan",
)


def properties(name: str) -> dict[str, Any]:
    tables: dict[str, Any] = SCHEMA["properties"]
    table = tables["fleet"]["properties"]["class"]["items"] if name == "fleet.class" else tables[name]
    return {key: value for key, value in table["properties"].items() if (name, key) != ("fleet", "class")}


def test_it_is_a_schema() -> None:
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert json.loads(schema_text()) == SCHEMA


@pytest.mark.parametrize(("name", "table"), [*TABLES.items(), ("fleet.class", ClassConfig)])
def test_every_key_is_in_it_with_meaning_and_default(name: str, table: type[Any]) -> None:
    assert list(properties(name)) == list(keys_of(table))
    for key in keys_of(table).values():
        said = properties(name)[key.name]
        assert said["description"].startswith(key.meaning)
        assert ("default" in said) == (not key.needed and (key.default is not None or automatic(key.kind)))
        if "default" in said:
            assert jsonschema.Draft7Validator(said).is_valid(said["default"])


def test_ranges_choices_units_and_lists_are_in_it() -> None:
    assert properties("coordinator")["lease_s"] == {
        "description": "silence after which a device counts as lost. Unit: s",
        "default": 30.0,
        "type": "number",
        "exclusiveMinimum": 0,
    }
    ranks = properties("strategy")["ranks"]
    assert ranks["items"] == {"type": "integer", "minimum": 1, "maximum": 2**31 - 1}
    assert (ranks["type"], ranks["minItems"], ranks["uniqueItems"]) == ("array", 1, True)
    assert properties("training")["downlink"]["enum"] == ["full", "delta", "bf16"]
    assert properties("data")["text"]["anyOf"] == [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]
    assert {"enum", "type"} == {key for each in properties("strategy")["bandit"]["anyOf"] for key in each}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.name)
def test_the_examples_name_it_and_meet_it(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    directive, _, named = text.partition("\n")[0].partition(" ")
    assert directive == "#:schema" and (path.parent / named).resolve() == EXAMPLES.parent / "docs/fedcore.schema.json"
    CHECK.validate(read_toml(text))


@given(CONFIGS)
@settings(max_examples=40)
def test_every_configuration_that_fedcore_writes_meets_it(config: Config) -> None:
    CHECK.validate(read_toml(to_toml(config)))


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_an_editor_marks_the_mistakes_that_fedcore_names(text: str, message: str) -> None:
    with pytest.raises(ConfigError):
        parse_config(text)
    if not message.startswith(UNSAID):
        assert not CHECK.is_valid(read_toml(text))


def test_own_names_of_strategies_and_bandits_meet_it() -> None:
    CHECK.validate({"strategy": {"name": "mine", "bandit": "own", "aggregator": "median"}})


def test_it_can_be_printed() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fedcore.core.config.schema"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == schema_text()
