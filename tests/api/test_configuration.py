from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.api.configuration import load_config, toml_literal
from fedcore.core.config.tables import Config
from fedcore.core.config.toml import parse_config, read_toml
from fedcore.core.errors import ConfigError

QUICKSTART = Path(__file__).parents[2] / "examples" / "quickstart.toml"


def test_a_file_reads_as_the_command_reads_it() -> None:
    config = parse_config(QUICKSTART.read_text(encoding="utf-8"))
    assert load_config(QUICKSTART) == config
    assert load_config(str(QUICKSTART)) == config
    assert load_config(config) == config
    assert load_config({}) == Config()


def test_tables_in_a_dict() -> None:
    config = load_config(
        {
            "run": {"rounds": 3, "name": "mine"},
            "strategy": {"ranks": (2, 4), "exploration": 1},
            "data": {"text": ["premise", "claim"]},
            "fleet": {"edges": [1], "class": [{"name": "phone", "count": 2}, {"name": "hub"}]},
        }
    )
    assert (config.run.rounds, config.run.name) == (3, "mine")
    assert (config.strategy.ranks, config.strategy.exploration) == ((2, 4), 1.0)
    assert config.data.text == ("premise", "claim")
    assert config.fleet.edges == (1,)
    assert [(each.name, each.count) for each in config.classes] == [("phone", 2), ("hub", 1)]


def test_keys_are_overridden_by_values_of_python(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    config = load_config(
        QUICKSTART,
        {
            "run.rounds": np.int64(7),
            "training.learning_rate": np.float32(0.5),
            "training.keep_optimizer": True,
            "training.targets": ["q", "v"],
            "model.path": tmp_path / "model",
            "data.label": 'an "odd" \x7f ä 𝕏 name',
            "fleet.class.tx2.count": 1,
        },
    )
    assert (config.run.rounds, config.training.learning_rate, config.training.keep_optimizer) == (7, 0.5, True)
    assert config.training.targets == ("q", "v")
    assert config.model.path == str(tmp_path / "model")
    assert config.data.label == 'an "odd" \x7f ä 𝕏 name'
    assert {each.name: each.count for each in config.classes} == {"agx": 2, "nx": 2, "tx2": 1}


def test_existing_paths_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").touch()
    config = load_config({"data": {"train": "rows.csv", "test": "missing.csv"}})
    assert (config.data.train, config.data.test) == (str(tmp_path / "rows.csv"), "missing.csv")


@pytest.mark.parametrize(
    ("source", "overrides", "message"),
    [
        ("missing.toml", None, "^no configuration file missing.toml; examples/quickstart.toml is one to copy$"),
        (3, None, "^expected a path, a Config or a dict of tables, got int$"),
        ({"run": 3}, None, '^run: expected a table, such as {"run": {"rounds": 3}}, got 3$'),
        ({"run": {"round": 3}}, None, "^unknown config key run.round; did you mean run.rounds[?]$"),
        ({"run": {"rounds": None}}, None, "^run.rounds: None is no value; leave the key out for its default$"),
        ({"run": {"rounds": 1.5}}, None, "^run.rounds: expected a whole number, got 1.5$"),
        ({}, ["run.rounds=3"], r"^overrides: expected a dict such as .*, got \['run.rounds=3'\]$"),
        ({}, {"rounds": 3}, "^overrides: expected keys such as .*, got 'rounds'$"),
        ({}, {3: 3}, "^overrides: expected keys such as .*, got 3$"),
        ({}, {"run.rounds": object()}, "^run.rounds: expected text, a number, .*, got object$"),
        ({}, {"run.rounds": None}, "^run.rounds: None is no value"),
        ({}, {"fleet.class.phone.count": 2}, "^overrides 'fleet.class.phone.count=2': no device class 'phone'"),
    ],
)
def test_a_mistake_is_named(source: Any, overrides: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(source, overrides)


def test_a_mistake_in_a_file_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("[run]\nround = 3\n")
    with pytest.raises(ConfigError, match=r"bad.toml: unknown config key run.round"):
        load_config(tmp_path / "bad.toml")


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
LEAVES = st.one_of(st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False), TEXT)


@given(st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)))
def test_a_literal_reads_back_as_the_value(value: Any) -> None:
    assert read_toml(f"value = {toml_literal(value, 'value')}")["value"] == value
