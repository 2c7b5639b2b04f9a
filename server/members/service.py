"""The gRPC service: it converts messages to values and back, and decides nothing."""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from fedcore.core.errors import CertificateError, ProtocolError, TransportError, UpdateLate
from fedcore.protos.convert import blob as blob_wire
from fedcore.protos.convert import device as device_wire
from fedcore.protos.convert import stream as stream_wire
from fedcore.protos.service import FleetServicer
from fedcore.protos.tier_values import AnyDownward
from fedcore.protos.values import Goodbye, Heartbeat, Join, UploadHeader
from fedcore.protos.wire import ACCEPT_KEY
from fedcore.server.members.parent import Parent
from fedcore.server.members.sessions import Session
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.blobs.writer import BlobWriter
from fedcore.storage.pki.certificates import Identity, read_identity

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:
    from async_timeout import timeout

T = TypeVar("T")

LINGER_S = 2.0  # for a client to hang up after a goodbye
THREAD_BYTES = 64 << 10  # handing a smaller chunk to a thread takes longer than hashing and writing it


class FleetService(FleetServicer):
    """Serves one parent. `silence_s` bounds every wait for a client that should send or read."""

    def __init__(self, parent: Parent, blobs: BlobStore, *, tls: bool, silence_s: float) -> None:
        """Serve `parent`, with blobs out of and into `blobs`."""
        self._parent = parent
        self._members = parent.membership
        self._guard = parent.membership.guard
        self._blobs = blobs
        self._tls = tls
        self._silence_s = silence_s

    async def DescribeRun(self, request: Any, context: Any) -> Any:
        """Return what a newcomer must know."""
        identity = self._identity(context)
        self._guard.check_certificate(identity)
        newcomer = device_wire.newcomer_from_pb(request)
        return device_wire.description_to_pb(await self._members.describe(newcomer, identity))

    async def Connect(self, request_iterator: AsyncIterator[Any], context: Any) -> None:
        """Serve one stream: pass its messages to the membership, and send the outbox of its session."""
        identity = self._identity(context)
        join = await self._first(request_iterator)
        session = await self._members.join(join, identity)
        reader = asyncio.create_task(self._read(session, request_iterator))
        try:
            last: AnyDownward | None = None
            while (message := await session.outbox.get()) is not None:
                await self._bounded(context.write(stream_wire.response(message)))
                last = message
            self._members.leave(session)
            if session.fault is not None:
                raise session.fault
            if isinstance(last, Goodbye):
                # When the stream ends, a client drops unread messages: wait until it hangs up after the goodbye.
                await asyncio.wait({reader}, timeout=LINGER_S)
        finally:
            self._members.leave(session)
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader  # raises the error of a malformed message

    async def GetBlob(self, request: Any, context: Any) -> None:
        """Stream a blob, beginning at an offset."""
        identity = self._identity(context)
        self._guard.check_certificate(identity)
        await self._parent.ensure_blob(request.id)
        chunks = self._blobs.read_chunks(request.id, request.offset)
        next_chunk = _in_thread(next, chunks, None)  # a thread reads the next chunk while this one is sent
        try:
            while (chunk := await asyncio.shield(next_chunk)) is not None:
                next_chunk = _in_thread(next, chunks, None)
                await self._bounded(context.write(blob_wire.get_response(chunk)))
                self._guard.check_certificate(identity)
        finally:
            await _wait_for_thread(next_chunk)

    async def StatBlob(self, request: Any, context: Any) -> Any:
        """Return how many bytes of an upload have arrived."""
        self._guard.check_certificate(self._identity(context))
        complete = self._blobs.has(request.id)
        received = self._blobs.size(request.id) if complete else self._blobs.partial_size(request.id)
        return blob_wire.stat_response(complete=complete, received=received)

    async def PutBlob(self, request_iterator: AsyncIterator[Any], context: Any) -> Any:
        """Store an upload; if the stream breaks, the bytes so far stay for a resume."""
        identity = self._identity(context)
        header = blob_wire.put_header_from_pb(await self._next(request_iterator))
        # After the header: a refusal that crosses the header on the wire would lose its reason.
        self._guard.check_certificate(identity)
        if header is None:
            raise ProtocolError("an upload must begin with a header; update the client")
        session = self._sender(header)
        try:
            self._check_upload(session, header)
            with await self._open(session, header) as writer:
                await context.send_initial_metadata(((ACCEPT_KEY, "1"),))
                await self._receive(session, writer, request_iterator)
                if writer.offset == header.blob.size:
                    await asyncio.to_thread(writer.commit)
            return blob_wire.put_response(writer.offset)
        except ProtocolError as error:
            self._parent.upload_refused(session, header.round, error)
            raise

    async def _open(self, session: Session, header: UploadHeader) -> BlobWriter:
        blob = header.blob
        self._parent.upload_started(session, blob.id, new=not self._blobs.has(blob.id))
        # A resumed upload hashes the bytes so far, perhaps most of a large model: in a thread, not on the loop.
        try:
            return await asyncio.to_thread(self._blobs.writer, blob.id, blob.size, header.offset)
        except ProtocolError as error:
            if header.offset <= self._blobs.partial_size(blob.id):
                raise
            # Since its StatBlob, an earlier try or another sender has completed the same blob.
            raise TransportError(f"{error} (ask how much is here, once more)") from None

    async def _receive(self, session: Session, writer: BlobWriter, requests: AsyncIterator[Any]) -> None:
        """Hash and write every chunk while the next one arrives: one at a time, and none after this has returned."""
        writing = asyncio.get_running_loop().create_future()
        writing.set_result(None)
        try:
            while (message := await self._next(requests)) is not None:
                if session.fault is not None:  # cut off meanwhile
                    raise session.fault
                chunk = message.chunk
                await asyncio.shield(writing)
                if len(chunk) < THREAD_BYTES:
                    writer.write(chunk)
                else:
                    writing = _in_thread(writer.write, chunk)
                self._members.sign_of_life(session)
            await asyncio.shield(writing)
        finally:
            await _wait_for_thread(writing)

    def _sender(self, header: UploadHeader) -> Session:
        session = self._members.session_of(header.sender, header.session)
        if session is None:  # its stream broke, or the parent was restarted: the device joins again by itself
            raise TransportError(f"upload by {header.sender[:80]!r}: no such session; join first, then send again")
        return session

    def _check_upload(self, session: Session, header: UploadHeader) -> None:
        limit = self._parent.upload_limit(session, header.round)
        if limit is None:
            raise UpdateLate(f"{header.sender} has no open assignment of round {header.round}; drop the update")
        if header.blob.size > limit:
            raise ProtocolError(
                f"{header.sender}, round {header.round}: upload of {header.blob.size} bytes, expected at most {limit}; "
                "send the update of this assignment, in its codec"
            )

    async def _read(self, session: Session, requests: AsyncIterator[Any]) -> None:
        try:
            async for message in requests:
                value = stream_wire.request_value(message)
                self._members.receive(session, value)
                if isinstance(value, Heartbeat):
                    session.send(value)  # shows the member that its parent is alive
        finally:
            session.close()

    async def _first(self, requests: AsyncIterator[Any]) -> Join:
        message = await self._next(requests)
        value = None if message is None else stream_wire.request_value(message)
        if not isinstance(value, Join):
            raise ProtocolError("a stream must begin with a join; update the client")
        return value

    async def _next(self, requests: AsyncIterator[Any]) -> Any:
        return await self._bounded(anext(requests, None))

    async def _bounded(self, step: Awaitable[T]) -> T:
        try:
            async with timeout(self._silence_s):
                return await step
        except asyncio.TimeoutError:
            raise TransportError(f"nothing moved for {self._silence_s:g} s; connect again") from None

    def _identity(self, context: Any) -> Identity | None:
        if not self._tls:
            return None
        certificates = context.auth_context().get("x509_pem_cert")
        if not certificates:
            raise CertificateError("no client certificate came; join with --certs FOLDER")
        return read_identity(certificates[0])


def _in_thread(function: Callable[..., Any], *arguments: Any) -> "asyncio.Future[Any]":
    return asyncio.get_running_loop().run_in_executor(None, function, *arguments)


async def _wait_for_thread(future: "asyncio.Future[Any]") -> None:
    """Wait until a thread's call ends, with or without an error, so that its file is not closed before."""
    await asyncio.wait({future})
    if not future.cancelled():
        future.exception()  # retrieved, or asyncio would log it
