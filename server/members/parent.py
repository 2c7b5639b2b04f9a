"""What the gRPC service needs from its parent: a coordinator, an edge, or a Flower host."""

from typing import Protocol

from fedcore.core.errors import FedcoreError
from fedcore.server.members.membership import Membership
from fedcore.server.members.sessions import Session


class Parent(Protocol):
    """A parent: its members, their uploads and their downloads. All methods run on the event loop."""

    @property
    def membership(self) -> Membership:
        """Admission, sessions and departures of its members."""
        ...

    def upload_limit(self, session: Session, round_index: int) -> int | None:
        """Return the most bytes that `session` may upload now; None if it has nothing to upload."""
        ...

    def upload_started(self, session: Session, blob_id: str, *, new: bool) -> None:
        """Note an upload, to delete it after its round; a blob that was here before (not `new`) stays."""
        ...

    def upload_refused(self, session: Session, round_index: int, error: FedcoreError) -> None:
        """Report an upload that was refused."""
        ...

    async def ensure_blob(self, blob_id: str) -> None:
        """Return once a blob can be served; raises ProtocolError if no parent has it."""
        ...
