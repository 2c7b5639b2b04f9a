"""The types of keys in TOML: the conversion of a value, and the name of each type.

`true` is no number, text is no number, and 2.0 is no whole number. TOML has no None: here it means that a key is
missing, or a number or list that is left to the program by the word "auto".
"""

from types import NoneType, UnionType
from typing import Any, get_args, get_origin

from fedcore.core.errors import ConfigError

LARGEST_WHOLE_FLOAT = 2**53
AUTO = "auto"
NAMES = {str: "text in quotes", bool: "true or false", int: "a whole number", float: "a number"}


def coerce(value: Any, kind: Any, where: str) -> Any:
    """Return a value from TOML as a value of type `kind`: lists become tuples, whole numbers floats if `kind` is float.

    Raises ConfigError, naming `where`, for a value of another type.
    """
    if isinstance(kind, UnionType):
        return _first_fit(value, kind, where)
    if get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise _unfit(value, kind, where)
        return tuple(coerce(item, item_kind(kind), where) for item in value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < LARGEST_WHOLE_FLOAT:
        return float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _unfit(value, kind, where)
    return value


def options(kind: Any) -> list[Any]:
    """Return the types of a union that TOML has, or the one type."""
    return [option for option in get_args(kind) if option is not NoneType] if isinstance(kind, UnionType) else [kind]


def automatic(kind: Any) -> bool:
    """Return whether AUTO stands for a missing value of this type: not where it could be a text of its own."""
    return isinstance(kind, UnionType) and NoneType in get_args(kind) and str not in get_args(kind)


def item_kind(kind: Any) -> Any:
    """Return the type of a list's items, or None for a type that is no list."""
    return get_args(kind)[0] if get_origin(kind) is tuple else None


def called(kind: Any) -> str:
    """Return the name of a type in messages."""
    words = ["a list" if item_kind(option) else NAMES[option] for option in options(kind)]
    return " or ".join([*words, f'"{AUTO}"'] if automatic(kind) else words)


def _first_fit(value: Any, kind: Any, where: str) -> Any:
    if value == AUTO and automatic(kind):
        return None
    for option in options(kind):
        try:
            return coerce(value, option, where)
        except ConfigError:
            continue
    raise _unfit(value, kind, where)


def _unfit(value: Any, kind: Any, where: str) -> ConfigError:
    return ConfigError(f"{where}: expected {called(kind)}, got {value!r}")
