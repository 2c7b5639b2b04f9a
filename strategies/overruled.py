"""Settings that the named strategy overrules: not an error, but worth a message."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from fedcore.core.config.tables import TABLES, Config
from fedcore.strategies.table import resolve_settings


def overruled(config: Config) -> list[str]:
    """Return "key is X, not Y" for every value that is not the default and that the strategy replaces.

    Raises ConfigError for an unknown strategy.
    """
    resolved = resolve_settings(config)
    pairs = [(f"{name}.", getattr(config, name), getattr(resolved, name)) for name in TABLES]
    classes = zip(config.classes, resolved.classes, strict=True)
    pairs += [(f"fleet.class.{kind.name}.", kind, used) for kind, used in classes]
    return [
        f"{key} is {_text(used)}, not {_text(configured)}"
        for prefix, *tables in pairs
        for key, configured, used in _differing(prefix, *tables)
    ]


def _differing(prefix: str, table: Any, resolved: Any) -> Iterator[tuple[str, Any, Any]]:
    for setting in fields(table):
        configured, used = getattr(table, setting.name), getattr(resolved, setting.name)
        if configured not in (setting.default, used):
            yield prefix + setting.name, configured, used


def _text(value: Any) -> str:
    if value is None:
        return "unset"
    return str(list(value) if isinstance(value, tuple) else value)
