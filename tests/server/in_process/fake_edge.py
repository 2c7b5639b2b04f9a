"""Edges that say what they like, on a stream of their own."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fedcore.core.model.fingerprint import Fingerprint
from fedcore.protos.tier_values import LeafJoin, PartialSubmission, PartialVerdict, RoundShare
from fedcore.protos.values import BlobRef, Join, Role, UploadHeader, Welcome
from fedcore.protos.wire import PROTOCOL
from fedcore.storage.pki.certificates import TlsMaterial
from fedcore.transport.link import Link, Stream
from tests.fake_device import open_link
from tests.tiny_run import PATIENCE_S, timeout


def edge_join(
    name: str, *, uuid: str = "", epoch: int = 1, role: Role = Role.EDGE, takes_revocations: bool = False
) -> Join:
    """Return the join of an edge."""
    return Join(
        protocol_min=PROTOCOL,
        protocol_max=PROTOCOL,
        role=role,
        name=name,
        device_uuid=uuid or name,
        epoch=epoch,
        profile=None,
        fingerprint=Fingerprint(tensors="", config="", tokenizer=""),
        max_length=0,
        labels=(),
        takes_revocations=takes_revocations,
    )


@dataclass
class FakeEdge:
    """An edge with an open stream; `heard` is everything that came down and was not waited for."""

    name: str
    link: Link
    stream: Stream
    welcome: Welcome
    heard: list[Any] = field(default_factory=list)

    async def receive(self, *kinds: type) -> Any:
        """Return the next message of one of these kinds; others go to `heard`."""
        async with timeout(PATIENCE_S):
            while not isinstance(message := await self.stream.receive(), kinds):
                self.heard.append(message)
        return message

    async def share(self) -> RoundShare:
        """Return the next share."""
        found = await self.receive(RoundShare)
        assert isinstance(found, RoundShare)
        return found

    async def present(self, *joins: Join) -> None:
        """Say that these devices are below."""
        for join in joins:
            await self.stream.send(LeafJoin(join=join))

    async def submit(self, submission: PartialSubmission) -> PartialVerdict:
        """Pass a partial up and return the word on it."""
        await self.stream.send(submission)
        found = await self.receive(PartialVerdict)
        assert isinstance(found, PartialVerdict)
        return found

    async def upload(self, data: bytes, ref: BlobRef, number: int) -> int:
        """Upload one blob."""
        header = UploadHeader(blob=ref, offset=0, sender=self.name, session=self.welcome.session, round=number)
        return await self.link.upload(memoryview(data), header)


@asynccontextmanager
async def fake_edge(
    target: str, name: str, *, leaves: Sequence[Join] = (), tls: TlsMaterial | None = None, **options: Any
) -> AsyncIterator[FakeEdge]:
    """Join as an edge and present `leaves`; raises what the join is refused with."""
    link = open_link(target, tls)
    try:
        async with link.connect() as stream:
            await stream.send(edge_join(name, **options))
            welcome = await asyncio.wait_for(stream.receive(), PATIENCE_S)
            assert isinstance(welcome, Welcome)
            edge = FakeEdge(name, link, stream, welcome)
            await edge.present(*leaves)
            yield edge
    finally:
        await link.close()
