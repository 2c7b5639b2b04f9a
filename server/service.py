"""The gRPC service: messages in and out of values, nothing decided here."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fedcore.errors import CertificateError, ProtocolError, RunError, UpdateLate
from protos.convert import blob as blob_wire
from protos.convert import device as device_wire
from protos.convert import stream as stream_wire
from protos.service import FleetServicer
from protos.values import Join, UploadHeader
from server.coordinator import Coordinator
from server.session import Session
from storage.blobs import BlobStore
from storage.certificates import Identity, read_identity


class FleetService(FleetServicer):
    """Serves one coordinator. `silence_s` bounds every wait for a client that should be sending."""

    def __init__(self, coordinator: Coordinator, blobs: BlobStore, *, tls: bool, silence_s: float) -> None:
        """Serve `coordinator`, with blobs out of and into `blobs`."""
        self._coordinator = coordinator
        self._blobs = blobs
        self._tls = tls
        self._silence_s = silence_s

    async def DescribeRun(self, request: Any, context: Any) -> Any:
        """Tell a newcomer what it must know."""
        self._identity(context)
        return device_wire.description_to_pb(self._coordinator.description)

    async def Connect(self, request_iterator: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        """Hold one device's stream: its messages go to the coordinator, its outbox comes back."""
        identity = self._identity(context)
        join = await self._first(request_iterator)
        session = await self._coordinator.join(join, identity)
        reader = asyncio.create_task(self._read(session, request_iterator))
        try:
            while (message := await session.outbox.get()) is not None:
                yield stream_wire.response(message)
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader
            self._coordinator.leave(session)

    async def GetBlob(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Stream a blob from an offset on."""
        self._identity(context)
        chunks = self._blobs.read_chunks(request.id, request.offset)
        while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
            yield blob_wire.get_response(chunk)

    async def StatBlob(self, request: Any, context: Any) -> Any:
        """Say how much of an upload has arrived."""
        self._identity(context)
        complete = self._blobs.has(request.id)
        received = self._blobs.size(request.id) if complete else self._blobs.partial_size(request.id)
        return blob_wire.stat_response(complete=complete, received=received)

    async def PutBlob(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        """Take an upload into the spool; the partial stays for a resume where the stream breaks."""
        self._identity(context)
        header = blob_wire.put_header_from_pb(await self._next(request_iterator))
        if header is None:
            raise ProtocolError("an upload must begin with a header; update the client")
        session = self._check_upload(header)
        with self._blobs.writer(header.blob.id, header.blob.size, header.offset) as writer:
            while (message := await self._next(request_iterator)) is not None:
                writer.write(message.chunk)
                self._coordinator.sign_of_life(session)
            received = writer.offset
            if received == header.blob.size:
                await asyncio.to_thread(writer.commit)
        return blob_wire.put_response(received)

    def _check_upload(self, header: UploadHeader) -> Session:
        session = self._coordinator.session_of(header.sender, header.session)
        if session is None:
            raise ProtocolError(f"upload by {header.sender!r}: no such session; join first")
        limit = self._coordinator.upload_limit(session, header.round)
        if limit is None:
            raise UpdateLate(f"{header.sender} has no open assignment of round {header.round}; drop the update")
        if header.blob.size > limit:
            raise ProtocolError(
                f"{header.sender}, round {header.round}: upload of {header.blob.size} bytes, expected at most {limit}"
            )
        return session

    async def _read(self, session: Session, requests: AsyncIterator[Any]) -> None:
        try:
            async for message in requests:
                self._coordinator.receive(session, stream_wire.request_value(message))
        finally:
            session.close()

    async def _first(self, requests: AsyncIterator[Any]) -> Join:
        message = await self._next(requests)
        value = None if message is None else stream_wire.request_value(message)
        if not isinstance(value, Join):
            raise ProtocolError("a stream must begin with a join; update the client")
        return value

    async def _next(self, requests: AsyncIterator[Any]) -> Any:
        try:
            return await asyncio.wait_for(anext(requests, None), self._silence_s)
        except TimeoutError:
            raise RunError(f"nothing came for {self._silence_s:g} s; connect again") from None

    def _identity(self, context: Any) -> Identity | None:
        if not self._tls:
            return None
        certificates = context.auth_context().get("x509_pem_cert")
        if not certificates:
            raise CertificateError("no client certificate came; join with --certs FOLDER")
        return read_identity(certificates[0])
