"""A client's connection to its parent: one channel, one stream, resumable transfers of blobs in both directions."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import grpc

from fedcore.core.errors import BlobCorrupt, ConfigError, TransportError
from fedcore.protos.convert import blob as blob_wire
from fedcore.protos.convert import device as device_wire
from fedcore.protos.convert import stream as stream_wire
from fedcore.protos.service import FleetStub
from fedcore.protos.tier_values import AnyDownward, AnyUpward
from fedcore.protos.values import BlobRef, Newcomer, RunDescription, UploadHeader
from fedcore.protos.wire import ACCEPT_KEY, CHANNEL_OPTIONS, CHUNK_BYTES
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.pki.certificates import TlsMaterial
from fedcore.transport.reaching import fault_error, unreached
from fedcore.transport.throttle import Throttle

T = TypeVar("T")
LARGE_BYTES = 1 << 20  # a download of so many bytes is long enough to measure the link's speed
SLICES_PER_SECOND = 20  # of an upload on a thin link: heartbeats pass between slices, which keeps the lease


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkSettings:
    """The parents that a link may connect to, and its limits.

    `targets`: HOST:PORT of one or more parents, best first. `silence_s` bounds every single wait for the other side.
    `contact_s` bounds the wait for a target's first answer if there are other targets.
    """

    targets: tuple[str, ...]
    tls: TlsMaterial | None
    uplink: Throttle
    downlink: Throttle
    silence_s: float = 30.0
    contact_s: float = 5.0

    def __post_init__(self) -> None:
        if not self.targets:
            raise ConfigError("a link needs one target at least, HOST:PORT")


class Link:
    """An open channel to one parent at a time. Raises the parent's own errors, or TransportError."""

    def __init__(self, settings: LinkSettings) -> None:
        self.settings = settings
        self.downlink_mbps = 0.0  # speed of the last large download; 0 before the first
        self.heard_s = 0.0  # event loop time at which the parent last read or sent anything
        self._targets = settings.targets
        self._at = 0
        self._open()

    @property
    def targets(self) -> tuple[str, ...]:
        """HOST:PORT of every parent, best first."""
        return self._targets

    @property
    def target(self) -> str:
        """HOST:PORT of the parent that this link is connected to."""
        return self._targets[self._at]

    @property
    def contact_s(self) -> float:
        """Seconds to wait for a target's first answer."""
        alone = len(self._targets) == 1
        return self.settings.silence_s if alone else min(self.settings.silence_s, self.settings.contact_s)

    async def close(self) -> None:
        """Close the channel and every call on it."""
        await self._channel.close()

    async def switch(self) -> None:
        """Connect to the next target, after the last one to the first; calls in progress raise TransportError."""
        if len(self._targets) > 1:
            await self._connect_to((self._at + 1) % len(self._targets))

    async def prefer(self, targets: Sequence[str]) -> None:
        """Put `targets` before the present ones, and connect to the first of all."""
        current = self.target
        self._targets = tuple(dict.fromkeys((*targets, *self._targets)))
        self._at = self._targets.index(current)
        if self._at:
            await self._connect_to(0)

    async def describe(self, newcomer: Newcomer | None = None) -> RunDescription:
        """Ask for the run's description; with a `newcomer`, also for the parents that it should join."""
        request = device_wire.describe_request(newcomer or Newcomer())
        call = self._stub.DescribeRun(request, timeout=self.contact_s)
        return device_wire.description_from_pb(await self._raise(call))

    def connect(self) -> "Stream":
        """Open the bidirectional stream; the first message to send is a Join."""
        return Stream(self, self._stub.Connect())

    async def fetch(self, ref: BlobRef, store: BlobStore) -> int:
        """Download a blob into `store` and return the bytes received; continues an interrupted download.

        A blob inside its message stays there (see `fedcore.transport.payload.payload`).
        Raises BlobCorrupt where the bytes do not hash to the name.
        """
        if ref.inline:  # here already, but an emulated thin link takes its time for these bytes too
            await self.settings.downlink.take(len(ref.inline))
            return len(ref.inline)
        if store.has(ref.id):
            return 0
        writer = store.writer(ref.id, ref.size)
        received, begin = 0, asyncio.get_running_loop().time()
        try:
            call = self._stub.GetBlob(blob_wire.get_request(ref.id, writer.offset))
            async for message in self._bounded(call):
                chunk = message.chunk
                self._heard()
                await self.settings.downlink.take(len(chunk))
                writer.write(chunk)
                received += len(chunk)
            writer.commit()
        finally:
            writer.close()
        if received >= LARGE_BYTES:
            self.downlink_mbps = received * 8 / 1e6 / max(asyncio.get_running_loop().time() - begin, 1e-9)
        return received

    async def pack(self, ref: BlobRef, data: bytes) -> BlobRef:
        """Return `ref` with its bytes inside, after an emulated thin uplink took its time for them."""
        await self.settings.uplink.take(len(data))
        return replace(ref, inline=data)

    async def upload(self, data: memoryview, header: UploadHeader) -> int:
        """Upload a blob and return the bytes sent; continues an interrupted upload."""
        begin, stub = 0, self._stub
        if len(data) > CHUNK_BYTES:  # sending a smaller blob again costs less than asking how much has arrived
            stat = await self._raise(
                stub.StatBlob(blob_wire.stat_request(header.blob.id), timeout=self.settings.silence_s)
            )
            if stat.complete:
                return 0
            begin = min(stat.received, len(data))
        if stub is not self._stub:  # the answer of one parent says nothing about another
            raise TransportError(f"moved on to {self.target} before the upload of {header.blob.id} began")
        call = stub.PutBlob()
        await self._write(call, blob_wire.put_header(_at(header, begin)))
        # Wait until the header is accepted: bytes written into a refused call would hide the reason of the refusal.
        metadata = await self._within(call.initial_metadata())
        if ACCEPT_KEY not in dict(metadata or ()):
            await self._raise(call)
        for low in range(begin, len(data), self._slice_bytes()):
            chunk = data[low : low + self._slice_bytes()]
            await self.settings.uplink.take(len(chunk))
            await self._write(call, blob_wire.put_chunk(chunk))
        await self._within(call.done_writing())
        response = await self._raise(call)
        if response.received != len(data):
            raise BlobCorrupt(f"upload of {header.blob.id}: {response.received} of {len(data)} bytes arrived")
        return len(data) - int(begin)

    def _slice_bytes(self) -> int:
        rate = self.settings.uplink.bits_per_second
        return CHUNK_BYTES if not rate else max(4096, min(CHUNK_BYTES, int(rate / 8 / SLICES_PER_SECOND)))

    async def _write(self, call: Any, message: Any) -> None:
        try:
            await self._within(call.write(message))
            self._heard()
        except asyncio.InvalidStateError:
            await self._raise(call)  # the server has ended the call: its status says why

    def _heard(self) -> None:
        self.heard_s = asyncio.get_running_loop().time()

    async def _raise(self, call: Awaitable[T]) -> T:
        return await self._within(call)

    async def _within(self, step: Awaitable[T]) -> T:
        target, channel = self.target, self._channel  # the link may switch to another target during the wait
        try:
            return await asyncio.wait_for(step, self.settings.silence_s)
        except asyncio.TimeoutError:
            raise unreached(f"{target}: no answer for {self.settings.silence_s:g} s", target) from None
        except grpc.aio.AioRpcError as fault:
            raise fault_error(fault, target) from None
        except asyncio.CancelledError:
            if _asked_to_stop(ended=self._channel is not channel):
                raise
            raise _given_up(target) from None

    async def _bounded(self, call: Any) -> AsyncIterator[Any]:
        while True:
            message = await self._within(call.read())
            if message is grpc.aio.EOF:
                return
            yield message

    async def _connect_to(self, index: int) -> None:
        closing, self._at = self._channel, index
        self._open()
        await closing.close()

    def _open(self) -> None:
        self._channel = _channel(self.target, self.settings.tls)
        self._stub: Any = FleetStub(self._channel)


class Stream:
    """An open stream of values in both directions. Use as an async context manager."""

    def __init__(self, link: Link, call: Any) -> None:
        self._link = link
        self._target = link.target
        self._call = call
        self._channel = link._channel
        self._ended = False
        self._write_lock = (
            asyncio.Lock()
        )  # heartbeats and results come from different tasks, and gRPC allows one write at a time

    async def __aenter__(self) -> "Stream":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.give_up()

    def give_up(self) -> None:
        """End the stream from this side: a pending `receive` raises TransportError."""
        self._ended = True
        self._call.cancel()

    async def send(self, value: AnyUpward) -> None:
        """Send one value; raises TransportError, or the coordinator's own error, where the stream has ended."""
        async with self._write_lock:
            try:
                await self._link._within(self._call.write(stream_wire.request(value)))
            except asyncio.InvalidStateError:
                await self._link._raise(_status(self._call))

    async def receive(self) -> AnyDownward | None:
        """Wait for the next value and return it, or None once the server has closed the stream.

        The channel's keepalive ends a dead stream, so this wait is bounded too.
        """
        try:
            message = await self._call.read()
        except grpc.aio.AioRpcError as fault:
            raise fault_error(fault, self._target) from None
        except asyncio.CancelledError:
            if _asked_to_stop(ended=self._ended or self._link._channel is not self._channel):
                raise
            raise _given_up(self._target) from None
        self._link._heard()
        if message is grpc.aio.EOF:
            if await self._call.code() is not grpc.StatusCode.OK:
                await self._link._raise(_status(self._call))
            return None
        return stream_wire.response_value(message)


async def _status(call: Any) -> None:
    if await call.code() is grpc.StatusCode.OK:
        raise TransportError("the coordinator has closed the stream")
    raise grpc.aio.AioRpcError(
        await call.code(), await call.initial_metadata(), await call.trailing_metadata(), await call.details()
    )


def _at(header: UploadHeader, offset: int) -> UploadHeader:
    return UploadHeader(
        blob=header.blob, offset=offset, sender=header.sender, session=header.session, round=header.round
    )


def _asked_to_stop(*, ended: bool) -> bool:
    """Return whether a CancelledError is meant for this task; else it comes from a call that ended with its channel.

    `ended`: this side has left the channel or the call. Python 3.10 does not count a task's cancellations: there, a
    cancellation that comes at the same moment as such an end is taken for the end.
    """
    if sys.version_info >= (3, 11):
        task = asyncio.current_task()
        return task is not None and task.cancelling() > 0
    return not ended


def _given_up(target: str) -> TransportError:
    return TransportError(f"{target}: the connection was given up on this side")


def _channel(target: str, tls: TlsMaterial | None) -> grpc.aio.Channel:
    options = list(CHANNEL_OPTIONS)
    if tls is None:
        return grpc.aio.insecure_channel(target, options=options)
    credentials = grpc.ssl_channel_credentials(
        root_certificates=tls.ca, private_key=tls.key, certificate_chain=tls.certificate
    )
    return grpc.aio.secure_channel(target, credentials, options=options)
