"""A literal table by name, which a program may add entries of its own to."""

import re
from collections.abc import Iterator, Mapping
from typing import TypeVar

from fedcore.core.errors import ConfigError

T = TypeVar("T")

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class OpenTable(Mapping[str, T]):
    """The entries that fedcore ships, in their order, then those that this process added, for as long as it lives.

    Readers see one mapping. A shipped entry is never replaced and never removed.
    """

    def __init__(self, what: str, shipped: Mapping[str, T]) -> None:
        """Hold the `shipped` entries; `what` names one of them in messages, such as "aggregator"."""
        self.what = what
        self._shipped = dict(shipped)
        self._own: dict[str, T] = {}

    @property
    def own(self) -> Mapping[str, T]:
        """The entries that this process added."""
        return dict(self._own)

    def add(self, name: str, entry: T, *, replace: bool = False) -> None:
        """Add an entry; with `replace`, in the place of an earlier one that was added as `name`.

        Raises ConfigError for a name that is malformed or taken.
        """
        self.check_name(name)
        if name in self._own and not replace:
            raise ConfigError(f"{self.what} {name!r} is registered already; choose another name")
        self._own[name] = entry

    def check_name(self, name: object) -> None:
        """Raise ConfigError for what no entry of one's own can be called."""
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ConfigError(
                f"{self.what}: expected a name in quotes, of 1-63 characters of a-z, 0-9, '-' and '_', got {name!r}"
            )
        if name in self._shipped:
            raise ConfigError(f"{self.what} {name!r} comes with fedcore; choose another name")

    def remove(self, name: str) -> None:
        """Forget an entry that this process added; raises KeyError where there is none."""
        del self._own[name]

    def __getitem__(self, name: str) -> T:
        return self._shipped[name] if name in self._shipped else self._own[name]

    def __iter__(self) -> Iterator[str]:
        yield from self._shipped
        yield from self._own

    def __len__(self) -> int:
        return len(self._shipped) + len(self._own)
