"""A run's configuration from a file, from tables given as dicts, or from another configuration."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from os import PathLike
from pathlib import Path
from typing import Any

from fedcore.core.boundary import Boundary
from fedcore.core.config.tables import Config
from fedcore.core.config.toml import parse_config, to_toml
from fedcore.core.errors import ConfigError
from fedcore.storage.models.fetch import rooted

Source = Config | str | PathLike[str] | Mapping[str, Any]
Overrides = Mapping[str, object]

KEY = re.compile(r"[\w-]+(\.[\w-]+)+")


def load_config(source: Source, overrides: Overrides | None = None) -> Config:
    """Return the configuration of a TOML file, of tables in a dict, or of another `Config`, with keys overridden.

    `overrides` maps "table.key" to a value, and "fleet.class.NAME.key" to one of a device class.
    Relative paths of model and data that exist are made absolute. Raises ConfigError, naming the key, for a file that
    cannot be read and for keys, types and ranges that do not fit.

        config = fedcore.load_config("examples/simulation.toml", {"run.rounds": 3, "training.learning_rate": 1e-3})
        config = fedcore.load_config({"model": {"path": "fetch:minilm"}, "fleet": {"class": [{"name": "phone"}]}})
    """
    changes = override_words({} if overrides is None else overrides)
    try:
        if isinstance(source, Config):
            return with_roots(parse_config(to_toml(source), changes))
        if isinstance(source, Mapping):
            return with_roots(parse_config(toml_tables(source), changes))
        if not isinstance(source, str | PathLike):
            raise ConfigError(f"expected a path, a Config or a dict of tables, got {type(source).__name__}")
        return read_config_file(Path(source), changes)
    except ConfigError as error:
        raise ConfigError(str(error).replace("--set ", "overrides ")) from None


def read_config_file(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read and check a configuration file; raises ConfigError naming the file and the key."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"no configuration file {path}; examples/quickstart.toml is one to copy") from None
    except (OSError, UnicodeDecodeError) as cause:
        raise ConfigError(f"cannot read {path}: {cause}") from None
    try:
        with Boundary(ConfigError, "cannot be read"):
            return with_roots(parse_config(text, overrides))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error.__cause__


def with_roots(config: Config) -> Config:
    """Return the configuration with existing local paths made absolute, so that a run can go on from any folder."""
    data = replace(config.data, train=rooted(config.data.train), test=rooted(config.data.test))
    config = replace(config, model=replace(config.model, path=rooted(config.model.path)), data=data)
    _check_utf8(to_toml(config))
    return config


def _check_utf8(text: str) -> None:
    """Refuse a value that no run folder can hold, such as a path through a folder whose name is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as cause:
        line = text.split("\n")[text.count("\n", 0, cause.start)]
        raise ConfigError(f"{line!a}: expected UTF-8; rename what is called otherwise") from None


def override_words(overrides: Overrides) -> list[str]:
    """Return {"table.key": value} as `parse_config` takes it; raises ConfigError for what is no such mapping."""
    if not isinstance(overrides, Mapping):
        raise ConfigError(f'overrides: expected a dict such as {{"run.rounds": 5}}, got {overrides!r}')
    for key in overrides:
        if not isinstance(key, str) or not KEY.fullmatch(key):
            raise ConfigError(f'overrides: expected keys such as "run.rounds" or "fleet.class.NAME.count", got {key!r}')
    return [f"{key}={toml_literal(value, key)}" for key, value in overrides.items()]


def toml_tables(tables: Mapping[str, Any]) -> str:
    """Return {"table": {"key": value}} as TOML text; raises ConfigError for what TOML cannot hold."""
    for name, table in tables.items():
        if not isinstance(table, Mapping):
            raise ConfigError(f'{name}: expected a table, such as {{"run": {{"rounds": 3}}}}, got {table!r}')
    return "".join(f"{_quoted(str(name))} = {toml_literal(table, str(name))}\n" for name, table in tables.items())


def toml_literal(value: object, where: str) -> str:
    """Return a Python value as TOML spells it; raises ConfigError, naming the key `where`, for one TOML cannot hold."""
    match value:
        case bool():
            return "true" if value else "false"
        case str() | PathLike():
            return _quoted(str(value))
        case Integral():
            return str(int(value))
        case Real():
            return repr(float(value))
        case Mapping():
            items = (f"{_quoted(str(key))} = {toml_literal(item, f'{where}.{key}')}" for key, item in value.items())
            return "{" + ", ".join(items) + "}"
        case list() | tuple():
            return "[" + ", ".join(toml_literal(item, where) for item in value) + "]"
    if value is None:
        raise ConfigError(f"{where}: None is no value; leave the key out for its default")
    raise ConfigError(f"{where}: expected text, a number, a truth value, a list or a dict, got {type(value).__name__}")


def _quoted(text: str) -> str:
    # JSON's strings are TOML's, but for DEL, which TOML wants escaped; JSON's escapes of astral characters it refuses.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
