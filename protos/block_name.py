"""Names of an adapter's rank blocks on the wire: "low-high", or "low-high/ring" where the adapter comes in rings."""

import re
from dataclasses import dataclass

from fedcore.core.errors import ProtocolError

_FORM = re.compile(r"(?P<low>\d{1,6})-(?P<high>\d{1,6})(/(?P<ring>\d{1,6}))?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockName:
    """Ranks `low` to below `high` of one ring; `ring` None: of all rows."""

    low: int
    high: int
    ring: int | None = None

    def __str__(self) -> str:
        return f"{self.low}-{self.high}" + ("" if self.ring is None else f"/{self.ring}")

    @classmethod
    def parse(cls, text: str) -> "BlockName":
        """Parse a name; raises ProtocolError where `text` is no rank block's name."""
        match = _FORM.fullmatch(text)
        if match is None:
            raise ProtocolError(f"{text!r} names no rank block, such as 0-4 or 0-4/1; update coordinator and device")
        ring = match["ring"]
        return cls(low=int(match["low"]), high=int(match["high"]), ring=None if ring is None else int(ring))
