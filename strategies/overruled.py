"""Settings that the named strategy reads otherwise than they were given: no mistake, but no secret either."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from fedcore.core.config.tables import TABLES, Config
from fedcore.strategies.table import resolve_settings


def overruled(config: Config) -> list[str]:
    """Return "key is X, not Y" of every value that is not the default and that the strategy takes for another.

    Raises ConfigError for an unknown strategy.
    """
    resolved = resolve_settings(config)
    pairs = [(f"{name}.", getattr(config, name), getattr(resolved, name)) for name in TABLES]
    classes = zip(config.classes, resolved.classes, strict=True)
    pairs += [(f"fleet.class.{given.name}.", given, taken) for given, taken in classes]
    return [
        f"{key} is {_shown(taken)}, not {_shown(given)}"
        for prefix, *tables in pairs
        for key, given, taken in _differing(prefix, *tables)
    ]


def _differing(prefix: str, table: Any, resolved: Any) -> Iterator[tuple[str, Any, Any]]:
    for setting in fields(table):
        given, taken = getattr(table, setting.name), getattr(resolved, setting.name)
        if given not in (setting.default, taken):
            yield prefix + setting.name, given, taken


def _shown(value: Any) -> str:
    if value is None:
        return "unset"
    return str(list(value) if isinstance(value, tuple) else value)
