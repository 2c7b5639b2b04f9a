"""An immutable mapping with cheap changed copies: a large dict below a small one."""

from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView
from typing import TypeVar

V = TypeVar("V")
D = TypeVar("D")


class Overlay(Mapping[str, V]):
    """Entries by name, in the order of a dict after the same changes.

    A changed copy shares the lower dict and copies the upper one, which is merged into a new lower one as soon as the
    square of its size exceeds the size of the lower one: n entries cost O(sqrt n) per change, where copying them all
    would cost O(n).
    """

    __slots__ = ("_lower", "_upper")

    def __init__(self, entries: Mapping[str, V] | None = None) -> None:
        """Begin with a copy of `entries`, with none by default."""
        self._lower: dict[str, V] = dict(entries or {})
        self._upper: dict[str, V] = {}

    def with_entry(self, key: str, value: V) -> "Overlay[V]":
        """Return a copy in which `key` has `value`."""
        return self._over({**self._upper, key: value})

    def with_entries(self, entries: Mapping[str, V]) -> "Overlay[V]":
        """Return a copy with these entries changed or added."""
        return self._over({**self._upper, **entries})

    def _over(self, upper: dict[str, V]) -> "Overlay[V]":
        after: Overlay[V] = Overlay.__new__(Overlay)
        if len(upper) ** 2 > len(self._lower):
            after._lower, after._upper = {**self._lower, **upper}, {}
        else:
            after._lower, after._upper = self._lower, upper
        return after

    def __getitem__(self, key: str) -> V:
        """The value of `key`; raises KeyError where it has none."""
        return self._upper[key] if key in self._upper else self._lower[key]

    def __contains__(self, key: object) -> bool:
        """Whether `key` has a value."""
        return key in self._upper or key in self._lower

    def get(self, key: str, default: D | None = None) -> V | D | None:  # type: ignore[override]
        """The value of `key`, or the default."""
        return self._upper[key] if key in self._upper else self._lower.get(key, default)

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._lower) + sum(key not in self._lower for key in self._upper)

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys."""
        return iter(self._whole())

    def keys(self) -> KeysView[str]:
        """All keys."""
        return self._whole().keys()

    def values(self) -> ValuesView[V]:
        """All values, in the order of the keys."""
        return self._whole().values()

    def items(self) -> ItemsView[str, V]:
        """All entries."""
        return self._whole().items()

    def __repr__(self) -> str:
        """As a dict's."""
        return f"Overlay({self._whole()!r})"

    def _whole(self) -> dict[str, V]:
        return {**self._lower, **self._upper} if self._upper else self._lower
