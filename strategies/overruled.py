"""What somebody set that the named strategy reads otherwise: no mistake, but no secret either."""

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
    pairs += [(f"fleet.class.{each.name}.", each, other) for each, other in classes]
    return [
        f"{key} is {_shown(taken)}, not {_shown(told)}"
        for where, *both in pairs
        for key, told, taken in _told(where, *both)
    ]


def _told(where: str, table: Any, resolved: Any) -> Iterator[tuple[str, Any, Any]]:
    for each in fields(table):
        told, taken = getattr(table, each.name), getattr(resolved, each.name)
        if told not in (each.default, taken):
            yield where + each.name, told, taken


def _shown(value: Any) -> str:
    if value is None:
        return "unset"
    return str(list(value) if isinstance(value, tuple) else value)
