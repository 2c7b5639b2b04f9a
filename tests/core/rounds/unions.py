"""What every module of commands or events must be: values, and one union that names them all."""

import inspect
from dataclasses import FrozenInstanceError, fields, is_dataclass
from types import ModuleType
from typing import Any, get_args

import pytest


def classes_of(module: ModuleType) -> list[type[Any]]:
    """The dataclasses that a module defines, in order."""
    return [kind for kind in vars(module).values() if inspect.isclass(kind) and kind.__module__ == module.__name__]


def check_values(module: ModuleType, union: Any) -> None:
    """The union holds each class of the module once, and each is frozen, with a docstring."""
    kinds = classes_of(module)
    assert all(is_dataclass(kind) and kind.__doc__ for kind in kinds)
    assert set(get_args(union)) == set(kinds) and len(get_args(union)) == len(kinds)
    for kind in kinds:
        value = kind(**{item.name: None for item in fields(kind)})
        assert value == kind(**{item.name: None for item in fields(kind)})
        for item in fields(kind):
            with pytest.raises(FrozenInstanceError):
                setattr(value, item.name, 1)
