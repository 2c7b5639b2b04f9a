"""What the gRPC service asks of whoever it serves: a coordinator, or an edge."""

from typing import Protocol

from fedcore.core.errors import FedcoreError
from fedcore.protos.tier_values import AnyUpward
from fedcore.protos.values import Join, Newcomer, RunDescription
from fedcore.server.members.sessions import Session
from fedcore.storage.pki.certificates import Identity


class Parent(Protocol):
    """One side of every stream. All methods run on the event loop."""

    def vouch(self, identity: Identity | None) -> None:
        """Raise CertificateError where this certificate has been revoked; None came without TLS."""
        ...

    async def describe(self, newcomer: Newcomer, identity: Identity | None) -> RunDescription:
        """What a newcomer must know, and where it should join; with the shard it asks for, or raises why not."""
        ...

    async def join(self, join: Join, identity: Identity | None) -> Session:
        """Admit a newcomer or raise what it must change; the session's outbox begins with the welcome."""
        ...

    def leave(self, session: Session) -> None:
        """The stream of `session` has closed; said once or more often."""
        ...

    def receive(self, session: Session, message: AnyUpward) -> None:
        """Take one message of a stream; a fenced session's messages no longer count."""
        ...

    def sign_of_life(self, session: Session) -> None:
        """Renew the lease of a session."""
        ...

    def session_of(self, name: str, token: str) -> Session | None:
        """The live session that holds `token`."""
        ...

    def upload_limit(self, session: Session, round_index: int) -> int | None:
        """Most bytes `session` may upload now; None where it has nothing to upload."""
        ...

    def uploading(self, session: Session, blob_id: str, *, new: bool) -> None:
        """Note an upload, so that it goes when its round is behind us; what was here before it stays."""
        ...

    def refused(self, session: Session, round_index: int, error: FedcoreError) -> None:
        """Report an upload that was refused."""
        ...

    async def bring(self, blob_id: str) -> None:
        """See to it that a blob can be served; raises ProtocolError where nobody has it."""
        ...
