"""Numbers of many devices, stored as in the ledger's JSON; a named tuple is made at each read."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

T = TypeVar("T", bound=tuple[Any, ...])
D = TypeVar("D")


class DeviceTable(Mapping[str, T], Generic[T]):
    """A named tuple of numbers for each device; never changes. A method `cells` of it says how rows are written.

    A registry may hold a million devices, of which a round reads a thousand. A state is read and written once a turn.
    Turning every row into a tuple and back would take longer than the turn, so rows stay lists until they are read, and
    the JSON form is the dict of them, not a copy: nothing changes a state's JSON.
    """

    __slots__ = ("_kind", "_rows")

    def __init__(self, kind: Callable[..., T], rows: dict[str, list[Any]] | None = None) -> None:
        self._kind = kind
        self._rows: dict[str, list[Any]] = {} if rows is None else rows

    def __getitem__(self, device: str) -> T:
        return self._kind(*self._rows[device])

    def get(self, device: str, default: D | None = None) -> T | D | None:  # type: ignore[override]
        """Return a device's numbers, or the default; the inherited method would raise and catch a KeyError."""
        row = self._rows.get(device)
        return default if row is None else self._kind(*row)

    def __contains__(self, device: object) -> bool:
        return device in self._rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"DeviceTable({dict(self.items())})"

    def updated(self, rows: Mapping[str, T]) -> "DeviceTable[T]":
        """Return the table with these rows, sorted by device."""
        cells = getattr(self._kind, "cells", list)
        after = {**self._rows, **{device: cells(row) for device, row in rows.items()}}
        if not rows.keys() <= self._rows.keys():
            after = {device: after[device] for device in sorted(after)}  # sorting pairs would take twice as long
        return DeviceTable(self._kind, after)

    def to_json(self) -> dict[str, list[Any]]:
        """Return the rows as lists, by device; the caller changes neither."""
        return self._rows
