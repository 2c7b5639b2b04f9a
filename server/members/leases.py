"""Leases: a member without a sign of life for some time counts as gone."""

from collections.abc import Hashable
from typing import Generic, TypeVar

Holder = TypeVar("Holder", bound=Hashable)


class Leases(Generic[Holder]):
    """The time of every holder's last sign of life. A holder is a session, or the name of a device."""

    def __init__(self) -> None:
        """Begin without a lease."""
        self._seen_s: dict[Holder, float] = {}

    def __contains__(self, holder: Holder) -> bool:
        """Whether the holder has a lease, run out or not."""
        return holder in self._seen_s

    def renew(self, holder: Holder, now_s: float) -> None:
        """Begin a lease, or renew it."""
        self._seen_s[holder] = now_s

    def end(self, holder: Holder) -> None:
        """Forget a lease, if there is one."""
        self._seen_s.pop(holder, None)

    def expired(self, now_s: float, lease_s: float) -> list[Holder]:
        """Return holders with a last sign of life `lease_s` or more seconds ago; their leases stay until `end`."""
        return [holder for holder, seen_s in self._seen_s.items() if now_s >= seen_s + lease_s]
