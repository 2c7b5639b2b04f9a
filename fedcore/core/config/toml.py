"""The run configuration as text: strict TOML in, complete TOML out.

`parse_config` checks names (suggesting the nearest known one), types and, through `fedcore.core.config.tables`, ranges;
`to_toml` writes every default out.
"""

import difflib
import json
import re
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from fedcore.core.config.keys import keys_of
from fedcore.core.config.kinds import AUTO, coerce
from fedcore.core.config.tables import TABLES, ClassConfig, Config, FleetConfig
from fedcore.core.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

_IPV6 = re.compile(r"\[[0-9A-Fa-f:.%]+\]:\d+")
CLASS_PREFIX = "fleet.class."


def parse_config(text: str, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration of TOML `text`, with `table.key=value` overrides applied in order.

    A value that is not TOML is taken as a bare word: `model.path=fetch:minilm`. A key of one device class is
    `fleet.class.NAME.key`. Raises ConfigError, naming the key and the remedy, for text that is not TOML and for keys,
    types and ranges that do not fit.
    """
    raw = read_toml(text)
    for override in overrides:
        _apply(raw, override)
    _check_known("", raw, TABLES)
    fleet = raw.get("fleet", {})
    if not isinstance(fleet, dict):
        raise ConfigError("fleet: expected [[fleet.class]] tables")
    _check_known("fleet.", fleet, ("class", *keys_of(FleetConfig)))
    rows = fleet.pop("class", [])
    tables = {name: _build(kind, _table(name, raw.get(name, {})), f"{name}.") for name, kind in TABLES.items()}
    if not isinstance(rows, list):
        raise ConfigError("fleet.class: expected [[fleet.class]] with double brackets")
    classes = tuple(_build(ClassConfig, _table("fleet.class", row), "fleet.class.") for row in rows)
    return Config(**tables, classes=classes)


def read_toml(text: str) -> dict[str, Any]:
    """Return the tables and values of TOML `text`; raises ConfigError for text that is not TOML."""
    try:
        return tomllib.loads(text)
    except ValueError as cause:  # TOMLDecodeError, and numbers of thousands of digits
        raise ConfigError(f"not valid TOML: {cause}") from None


def to_toml(config: Config) -> str:
    """Return every value as TOML, so that `parse_config` gives an equal config."""
    lines: list[str] = []
    for name in TABLES:
        lines += [f"[{name}]", *_items(getattr(config, name)), ""]
    for kind in config.classes:
        lines += ["[[fleet.class]]", *_items(kind), ""]
    return "\n".join(lines)


def _items(table: Any) -> list[str]:
    values = ((key, getattr(table, name)) for name, key in keys_of(type(table)).items())
    # None is left out where a missing key means it, and "auto" where a missing key means something else
    return [
        f"{key.name} = {literal(AUTO if value is None else value)}"
        for key, value in values
        if value is not None or key.default is not None
    ]


def literal(value: Any) -> str:
    """Return one value as TOML writes it."""
    if isinstance(value, tuple):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    if isinstance(value, float):
        return repr(value)
    # A JSON string is a TOML string, except for DEL, which TOML wants escaped, and JSON's escapes of astral characters.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _apply(raw: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    name, _, key = path.strip().rpartition(".")
    if not separator or not name or not key:
        raise ConfigError(f"--set {override!r}: expected table.key=value, for example run.rounds=5")
    table = _class_row(raw, name, override) if name.startswith(CLASS_PREFIX) else raw.setdefault(name, {})
    if not isinstance(table, dict):
        raise ConfigError(f"--set {override!r}: {name} is not a table")
    table[key] = _value(text.strip(), override)


def _class_row(raw: Mapping[str, Any], path: str, override: str) -> Any:
    """Return the [[fleet.class]] table that `fleet.class.NAME` means."""
    fleet = raw.get("fleet")
    rows = fleet.get("class") if isinstance(fleet, dict) else None
    by_name = {row.get("name"): row for row in rows or () if isinstance(row, dict)}
    name = path.removeprefix(CLASS_PREFIX)
    if name not in by_name:
        known = ", ".join(map(str, by_name)) or "none"
        raise ConfigError(f"--set {override!r}: no device class {name!r}; the file has: {known}")
    return by_name[name]


def _value(text: str, override: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        if _IPV6.fullmatch(text):
            return text
        if text[:1] in ("[", "{", '"', "'"):
            raise ConfigError(f'--set {override!r}: not a TOML value; quote words in lists: ["a", "b"]') from None
        return text  # a bare word


def _table(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(f"{name}: expected a table, got {value!r}")
    return value


def _check_known(prefix: str, keys: Iterable[str], known: Collection[str]) -> None:
    for key in keys:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known keys: {', '.join(known)}"
            raise ConfigError(f"unknown config key {prefix}{key}; {hint}")


def _build(kind: type[T], table: Mapping[str, Any], prefix: str) -> T:
    keys = keys_of(kind)
    _check_known(prefix, table, keys)
    values = {name: coerce(value, keys[name].kind, prefix + name) for name, value in table.items()}
    if kind is ClassConfig and "name" not in values:
        raise ConfigError(f"{prefix}name is missing: every [[fleet.class]] needs a name")
    return kind(**values)
