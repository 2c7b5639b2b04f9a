"""The run configuration as text: strict TOML in, complete TOML out.

`parse_config` checks names (suggesting the nearest known one), types and, through `fedcore.core.config.tables`, ranges;
`to_toml` writes every default out.
"""

import dataclasses
import difflib
import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from fedcore.core.config.tables import ClassConfig, Config, FleetConfig
from fedcore.core.errors import ConfigError

T = TypeVar("T")

_IPV6 = re.compile(r"\[[0-9A-Fa-f:.%]+\]:\d+")
LARGEST_WHOLE_FLOAT = 2**53
CLASS_PREFIX = "fleet.class."
TABLES = ("run", "model", "data", "strategy", "training", "coordinator", "evaluation", "simulation", "fleet")


def parse_config(text: str, overrides: Sequence[str] = ()) -> Config:
    """Return the configuration of TOML `text`, with `table.key=value` overrides applied in order.

    A value that is not TOML is taken as a bare word: `model.path=fetch:minilm`. A key of one device class is
    `fleet.class.NAME.key`. Raises ConfigError, naming the key and
    the remedy, for text that is not TOML and for keys, types and ranges that do not fit.
    """
    try:
        raw: dict[str, Any] = tomllib.loads(text)
    except ValueError as cause:  # TOMLDecodeError, and numbers of thousands of digits
        raise ConfigError(f"not valid TOML: {cause}") from None
    for override in overrides:
        _apply(raw, override)
    _known("", raw, TABLES)
    fleet = raw.get("fleet", {})
    if not isinstance(fleet, dict):
        raise ConfigError("fleet: expected [[fleet.class]] tables")
    _known("fleet.", fleet, ("class", *_keys(FleetConfig)))
    rows = fleet.pop("class", [])
    hints = get_type_hints(Config)
    tables = {name: _build(hints[name], _table(name, raw.get(name, {})), f"{name}.") for name in TABLES}
    if not isinstance(rows, list):
        raise ConfigError("fleet.class: expected [[fleet.class]] with double brackets")
    classes = tuple(_build(ClassConfig, _table("fleet.class", row), "fleet.class.") for row in rows)
    return Config(**tables, classes=classes)


def to_toml(config: Config) -> str:
    """Return every value as TOML, so that `parse_config` gives an equal config."""
    lines: list[str] = []
    for name in TABLES:
        lines += [f"[{name}]", *_items(getattr(config, name)), ""]
    for each in config.classes:
        lines += ["[[fleet.class]]", *_items(each), ""]
    return "\n".join(lines)


def _items(table: Any) -> list[str]:
    values = ((item.name, getattr(table, item.name)) for item in dataclasses.fields(table))
    return [f"{name} = {_literal(value)}" for name, value in values if value is not None]


def _literal(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(_literal(item) for item in value) + "]"
    if isinstance(value, float):
        return repr(value)
    # JSON's strings are TOML's, but for DEL, which TOML wants escaped; JSON's escapes of astral characters it refuses.
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
    """The [[fleet.class]] table that `fleet.class.NAME` means."""
    fleet = raw.get("fleet")
    rows = fleet.get("class") if isinstance(fleet, dict) else None
    named = {row.get("name"): row for row in rows or () if isinstance(row, dict)}
    name = path.removeprefix(CLASS_PREFIX)
    if name not in named:
        known = ", ".join(str(each) for each in named) or "none"
        raise ConfigError(f"--set {override!r}: no device class {name!r}; the file has: {known}")
    return named[name]


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


def _known(prefix: str, given: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known keys: {', '.join(known)}"
            raise ConfigError(f"unknown config key {prefix}{key}; {hint}")


def _build(kind: type[T], table: Mapping[str, Any], prefix: str) -> T:
    hints = get_type_hints(kind)
    fields = _keys(kind)
    _known(prefix, table, fields)
    values = {key: _coerce(value, hints[key], prefix + key) for key, value in table.items()}
    if "name" in fields and kind is ClassConfig and "name" not in values:
        raise ConfigError(f"{prefix}name is missing: every [[fleet.class]] needs a name")
    return kind(**values)


def _keys(kind: type[Any]) -> list[str]:
    return [item.name for item in dataclasses.fields(kind)]


def _coerce(value: Any, kind: Any, where: str) -> Any:
    if isinstance(kind, UnionType):
        for option in _options(kind):
            try:
                return _coerce(value, option, where)
            except ConfigError:
                continue
        raise _unfit(where, kind, value)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise _unfit(where, kind, value)
        return tuple(_coerce(item, get_args(kind)[0], where) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST_WHOLE_FLOAT:
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _unfit(where, kind, value)
    return value


def _unfit(where: str, kind: Any, value: Any) -> ConfigError:
    return ConfigError(f"{where}: expected {_words(kind)}, got {value!r}")


def _options(union: UnionType) -> list[Any]:
    """The types TOML can write; it has no word for None, which leaving the key out means."""
    return [option for option in get_args(union) if option is not NoneType]


def _words(kind: Any) -> str:
    """A type as a writer of TOML calls it."""
    if isinstance(kind, UnionType):
        return " or ".join(_words(option) for option in _options(kind))
    if get_origin(kind) is tuple:
        return "a list"
    return {str: "text in quotes", bool: "true or false", int: "a whole number", float: "a number"}[kind]
