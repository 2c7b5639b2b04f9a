"""What the gRPC service asks of the parent that it serves: a coordinator, an edge, or a Flower host."""

from typing import Protocol

from fedcore.core.errors import FedcoreError
from fedcore.server.members.membership import Membership
from fedcore.server.members.sessions import Session


class Parent(Protocol):
    """The members of one parent, and what they upload and fetch. All methods run on the event loop."""

    @property
    def membership(self) -> Membership:
        """Admission, sessions and departures of its members."""
        ...

    def upload_limit(self, session: Session, round_index: int) -> int | None:
        """Most bytes `session` may upload now; None where it has nothing to upload."""
        ...

    def upload_started(self, session: Session, blob_id: str, *, new: bool) -> None:
        """Note an upload, so that it is deleted after its round; a blob that was here before (not `new`) stays."""
        ...

    def upload_refused(self, session: Session, round_index: int, error: FedcoreError) -> None:
        """Report an upload that was refused."""
        ...

    async def ensure_blob(self, blob_id: str) -> None:
        """Return once a blob can be served; raises ProtocolError where no parent has it."""
        ...
