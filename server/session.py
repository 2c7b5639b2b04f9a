"""One open stream: who is at the other end, and what waits to be sent."""

import asyncio
import secrets
from dataclasses import dataclass, field

from protos.tier_values import AnyDownward
from protos.values import Join

OUTBOX = 64  # messages; a device this far behind has stopped reading


@dataclass(slots=True, eq=False)
class Session:
    """A joined device or evaluator. `outbox` ends with None when the stream shall close."""

    join: Join
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    outbox: asyncio.Queue[AnyDownward | None] = field(default_factory=lambda: asyncio.Queue(OUTBOX))

    @property
    def name(self) -> str:
        """The name it joined under."""
        return self.join.name

    def send(self, message: AnyDownward) -> None:
        """Queue a message; a peer that does not read is cut off, and its lease runs out."""
        try:
            self.outbox.put_nowait(message)
        except asyncio.QueueFull:
            self.close()

    def close(self) -> None:
        """End the stream after what is queued, or at once where the queue is full."""
        while True:
            try:
                self.outbox.put_nowait(None)
                return
            except asyncio.QueueFull:
                self.outbox.get_nowait()
