"""A configuration key as a value: its type, default, rules, unit and meaning, read from the class of its table.

The class is the only source. It has a key as `name: Annotated[type, rules..., Unit("s"), "meaning"] = default`. Error
messages, the JSON Schema and the page of all keys are made from it.
"""

from collections.abc import Hashable, Mapping
from dataclasses import MISSING, dataclass, fields
from functools import cache
from types import MappingProxyType
from typing import Any, cast, get_type_hints

from fedcore.core.config.rules import Rule


@dataclass(frozen=True, slots=True)
class Unit:
    """The unit of a number, such as "s" or "tokens"."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key of a table."""

    name: str
    kind: Any  # int, str | None, tuple[float, ...], ...
    default: Any  # MISSING where the file must have a value; None where a missing key has a meaning of its own
    meaning: str  # one line of Markdown
    rules: tuple[Rule, ...]
    unit: str  # empty where there is none

    @property
    def needed(self) -> bool:
        """Whether the file must give a value."""
        return self.default is MISSING


def keys_of(table: type[Any]) -> Mapping[str, Key]:
    """Return the keys of a table's class by name, in the order written.

    Raises TypeError for a key without a meaning, which is a mistake in the class.
    """
    return _keys_of(cast(Hashable, table))  # every class is hashable; mypy does not know


@cache
def _keys_of(table: Any) -> Mapping[str, Key]:
    hints = get_type_hints(table, include_extras=True)
    return MappingProxyType({item.name: _key(item.name, hints[item.name], item.default) for item in fields(table)})


def check_keys(table: Any, prefix: str) -> None:
    """Raise ConfigError, naming `prefix` and the key, for the first value of a table that breaks a rule.

    A value of None is not checked: the key was left out.
    """
    for name, key in keys_of(type(table)).items():
        value = getattr(table, name)
        for rule in key.rules if value is not None else ():
            rule.check(prefix + name, value)


def _key(name: str, hint: Any, default: Any) -> Key:
    notes = getattr(hint, "__metadata__", ())
    meanings = [note for note in notes if isinstance(note, str)]
    if len(meanings) != 1:
        raise TypeError(f"{name}: expected Annotated[type, rules..., meaning] with one meaning, got {len(meanings)}")
    units = [note.name for note in notes if isinstance(note, Unit)]
    return Key(
        name=name,
        kind=hint.__origin__,
        default=default,
        meaning=meanings[0],
        rules=tuple(note for note in notes if not isinstance(note, str | Unit)),
        unit="".join(units),
    )
