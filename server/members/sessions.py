"""A member's session at its parent: on a stream of its own, or relayed through an edge."""

import asyncio
import secrets
from dataclasses import dataclass, field

from fedcore.core.errors import FedcoreError
from fedcore.protos.tier_values import AnyDownward, LeafDismissed, LeafJoined
from fedcore.protos.values import Downward, Goodbye, Join, Role, Welcome
from fedcore.storage.pki.certificates import Identity

OUTBOX = 64  # messages; a device this far behind has stopped reading
EDGE_OUTBOX = 4096  # an edge gets one for every device that joins below it


@dataclass(slots=True, eq=False)
class Session:
    """A joined device, evaluator or edge on its own stream. None in the `outbox` ends the stream."""

    join: Join
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    identity: Identity | None = None  # from its certificate; None without TLS
    fault: FedcoreError | None = None  # why its stream is cut off; the stream ends with this error
    outbox: asyncio.Queue[AnyDownward | None] = field(init=False)

    def __post_init__(self) -> None:
        self.outbox = asyncio.Queue(EDGE_OUTBOX if self.join.role is Role.EDGE else OUTBOX)

    @property
    def name(self) -> str:
        """The name it joined under."""
        return self.join.name

    @property
    def serial(self) -> str:
        """The serial number of its certificate in hexadecimal digits; empty without TLS."""
        return "" if self.identity is None else f"{self.identity.serial:x}"

    @property
    def stream(self) -> "Session":
        """The session with the stream that carries messages to this member."""
        return self

    def send(self, message: AnyDownward) -> None:
        """Queue a message; if the peer does not read, end its stream, and its lease runs out."""
        try:
            self.outbox.put_nowait(message)
        except asyncio.QueueFull:
            self.close()

    def cut_off(self, fault: FedcoreError) -> None:
        """End the stream at once, dropping queued messages, with an error that tells the peer why."""
        self.fault = fault
        while not self.outbox.empty():
            self.outbox.get_nowait()
        self.close()

    def close(self) -> None:
        """End the stream after the queued messages; if the queue is full, the oldest message makes room."""
        while True:
            try:
                self.outbox.put_nowait(None)
                return
            except asyncio.QueueFull:
                self.outbox.get_nowait()


@dataclass(slots=True, eq=False)
class RelayedSession:
    """A device below an edge: messages to it go down the edge's stream, with its name on them.

    Only welcomes and goodbyes travel this way. Assignments go in shares, and an edge answers updates itself.
    """

    join: Join
    stream: Session
    token: str = ""  # it uploads to its edge, never here
    over: bool = False

    @property
    def name(self) -> str:
        """The name it joined under."""
        return self.join.name

    def send(self, message: Downward) -> None:
        """Send through the edge; raises TypeError for a message that an edge makes itself."""
        match message:
            case Welcome():
                self.stream.send(LeafJoined(device=self.name, welcome=message))
            case Goodbye():
                self._end(message.reason)
            case _:
                raise TypeError(f"{type(message).__name__} does not go through an edge one by one")

    def close(self) -> None:
        """Tell the edge to end this session; a newer session of the device stays."""
        self._end("")

    def _end(self, goodbye: str) -> None:
        if not self.over:
            self.over = True
            self.stream.send(LeafDismissed(device=self.name, epoch=self.join.epoch, goodbye=goodbye))


AnySession = Session | RelayedSession
