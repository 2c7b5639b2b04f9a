"""Devices that answer assignments without training, each with one fault at most."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from fedcore.client.training.base_shift_cache import BaseShiftCache
from fedcore.core.codec.chain import encode
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.errors import FedcoreError, TransportError
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.core.model.geometry import Geometry
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.convert import blob as blob_wire
from fedcore.protos.tier_values import AnyDownward
from fedcore.protos.values import (
    BlobRef,
    Goodbye,
    Join,
    Role,
    RoundClosed,
    UpdateSubmission,
    UpdateVerdict,
    UploadHeader,
    Welcome,
    WireAssignment,
)
from fedcore.protos.wire import ACCEPT_KEY, PROTOCOL
from fedcore.storage.blobs.name import blob_name
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.pki.certificates import TlsMaterial
from fedcore.transport.download import read_keep_set
from fedcore.transport.link import Link, LinkSettings, Stream
from fedcore.transport.parent_connection import ParentConnection
from fedcore.transport.payload import fetch_all
from fedcore.transport.throttle import Throttle
from tests.tiny_run import LABELS, device_report, score_vectors, small_update


class Fault(Enum):
    """What a device does wrong with every assignment it gets."""

    NONE = "nothing"
    DROP = "drops the stream once, in the middle of the round"
    VANISH = "goes for good"
    MUTE = "stays connected, never answers, and stops its heartbeats"
    SLOW = "answers after the deadline"
    CORRUPT = "uploads bytes that do not hash to their name"
    CORRUPT_INLINE = "puts other bytes into the message than it names"
    DUPLICATE = "submits twice"
    NAN = "sends NaN"
    HUGE = "sends a value beyond the bound"
    WRONG_SHAPES = "sends tensors of another rank"
    WRONG_NAMES = "sends tensors nobody asked for"
    GARBAGE = "sends no container at all"
    OVERSIZED = "uploads more than its assignment allows"
    UNSENT = "names a blob that it never uploaded"
    OTHER_KEEP_SET = "says it trained under another keep-set"
    TRUNCATED = "breaks off its upload in the middle, then goes on"
    BAD_REPORT = "reports figures that are no numbers"


class Vanished(FedcoreError):
    """The device is gone for good."""


@dataclass(kw_only=True)
class FakeDevice:
    """One device. `inline` sends small updates inside the message, as real devices do; else they are uploaded."""

    name: str
    target: str
    mark: Fingerprint
    geometry: Geometry
    place: Path
    fault: Fault = Fault.NONE
    device_class: str = "tiny"
    tls: TlsMaterial | None = None
    labels: tuple[str, ...] = LABELS
    num_examples: int = 4
    inline: bool = True
    hold: Callable[[WireAssignment], Any] | None = None  # awaited before an answer
    reconnect_s: float = 5.0
    change: Callable[[Join], Join] = lambda join: join
    assignments: list[WireAssignment] = field(default_factory=list)
    verdicts: list[UpdateVerdict] = field(default_factory=list)
    closed: list[int] = field(default_factory=list)
    errors: list[FedcoreError] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    welcomes: list[Welcome] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)  # bytes of every upload
    epoch: int = 0
    dropped: bool = False
    shift: BaseShiftCache = field(default_factory=BaseShiftCache)

    def __post_init__(self) -> None:
        self.blobs = BlobStore(self.place / self.name)
        self.link = open_link(self.target, self.tls)

    def lead_to(self, *targets: str) -> None:
        """Have other parents than the coordinator; before `run`."""
        self.link = open_link(",".join(targets), self.tls)

    async def run(self) -> str:
        """Stay until the run is over; a device that vanishes returns as well."""
        if self.fault is Fault.MUTE:
            return await self._mute()
        connection = ParentConnection(
            link=self.link,
            make_join=self.join,
            on_welcome=self._welcome,
            on_message=self._message,
            say=self.said.append,
            reconnect_s=self.reconnect_s,
        )
        try:
            return await connection.run()
        except Vanished:
            return "vanished"
        finally:
            await self.link.close()

    async def join(self) -> Join:
        """Return the next session's join."""
        self.epoch += 1
        join = Join(
            protocol_min=PROTOCOL,
            protocol_max=PROTOCOL,
            role=Role.DEVICE,
            name=self.name,
            device_uuid=self.name,
            epoch=self.epoch,
            profile=DeviceProfile(name=self.name, device_class=self.device_class, num_examples=self.num_examples),
            fingerprint=self.mark,
            max_length=8,
            labels=self.labels,
        )
        return self.change(join)

    async def _mute(self) -> str:
        """Join, then read and say nothing."""
        try:
            async with self.link.connect() as stream:
                await stream.send(await self.join())
                while not isinstance(message := await stream.receive(), Goodbye | None):
                    if isinstance(message, WireAssignment):
                        self.assignments.append(message)
            return "closed"
        finally:
            await self.link.close()

    async def _welcome(self, welcome: Welcome, stream: Stream) -> None:
        self.welcomes.append(welcome)

    async def _message(self, message: AnyDownward, stream: Stream) -> None:
        match message:
            case WireAssignment():
                behind = {
                    assignment.round for assignment in self.assignments if assignment.round < message.round
                } - set(self.closed)
                self.closed += sorted(behind)  # an assignment of a later round says so
                self.assignments.append(message)
                await self._answer(message, stream)
            case UpdateVerdict():
                self.verdicts.append(message)
            case RoundClosed():
                self.closed.append(message.round)

    async def _answer(self, assignment: WireAssignment, stream: Stream) -> None:
        if self.fault is Fault.DROP and not self.dropped:
            self.dropped = True
            raise TransportError("the stream broke")
        if self.fault is Fault.VANISH:
            raise Vanished("gone")
        if self.hold is not None:
            await self.hold(assignment)
        try:
            for submission in await self._submissions(assignment):
                await stream.send(submission)
        except FedcoreError as error:
            self.errors.append(error)

    async def _submissions(self, assignment: WireAssignment) -> Sequence[UpdateSubmission]:
        refs = (*assignment.refs, *self.shift.missing(assignment.base_shift))
        await fetch_all(self.link, self.blobs, refs)
        self.shift.advance(assignment.base_shift, self.blobs)
        keep_set = read_keep_set(assignment, self.blobs)
        data = self._encoded(assignment, keep_set)
        update = await self._sent(assignment, data)
        scores = None
        if assignment.score:
            scores = await self._sent(assignment, encode(score_vectors(keep_set, self.name), "identity"), honest=True)
        submission = UpdateSubmission(
            round=assignment.round,
            update=update,
            scores=scores,
            keep_set="sha256:" + "0" * 64 if self.fault is Fault.OTHER_KEEP_SET else assignment.keep_set.id,
            report=device_report(loss_after=float("nan")) if self.fault is Fault.BAD_REPORT else device_report(),
        )
        return [submission, submission] if self.fault is Fault.DUPLICATE else [submission]

    def _encoded(self, assignment: WireAssignment, keep_set: KeepSet) -> bytes:
        if self.fault is Fault.GARBAGE:
            return b"not a container at all, whatever one makes of it"
        if self.fault is Fault.WRONG_SHAPES:
            assignment = replace(assignment, arm=replace(assignment.arm, rank=assignment.arm.rank + 1))
        update = small_update(self.geometry, assignment, keep_set, self.name, len(self.welcomes[-1].labels))
        if self.fault is Fault.NAN:
            update["head.bias"] = np.full_like(update["head.bias"], np.nan)
        if self.fault is Fault.HUGE:
            update["head.bias"] = np.full_like(update["head.bias"], 1e4)
        if self.fault is Fault.WRONG_NAMES:
            update["head.extra"] = update.pop("head.bias")
        return encode(update, assignment.training.codec)

    async def _sent(self, assignment: WireAssignment, data: bytes, honest: bool = False) -> BlobRef:
        ref = BlobRef(id=blob_name(data), size=len(data))
        if self.fault is Fault.UNSENT and not honest:
            return ref
        if self.fault is Fault.CORRUPT_INLINE and not honest:
            return replace(ref, inline=data[:-1] + bytes([data[-1] ^ 1]))
        if self.fault is Fault.CORRUPT and not honest:
            await put(self.link, self.header(ref, assignment.round), [data[:-1] + bytes([data[-1] ^ 1])])
            return ref
        if self.fault is Fault.TRUNCATED and not honest:
            await put(self.link, self.header(ref, assignment.round), [data[: len(data) // 2]])
        if self.fault is Fault.OVERSIZED and not honest:
            data = data + bytes(assignment.max_upload_bytes)
            ref = BlobRef(id=blob_name(data), size=len(data))
        elif self.inline:
            return replace(ref, inline=data)
        self.sent.append(await self.link.upload(memoryview(data), self.header(ref, assignment.round)))
        return ref

    def header(self, ref: BlobRef, number: int) -> UploadHeader:
        """Return the header of an upload in this device's newest session."""
        return UploadHeader(blob=ref, offset=0, sender=self.name, session=self.welcomes[-1].session, round=number)


def open_link(target: str, tls: TlsMaterial | None = None, silence_s: float = 10.0) -> Link:
    """Open a link without limits; `target` may be several, separated by commas."""
    unlimited = Throttle(0.0)
    return Link(
        LinkSettings(
            targets=tuple(target.split(",")), tls=tls, uplink=unlimited, downlink=unlimited, silence_s=silence_s
        )
    )


async def put(link: Link, header: UploadHeader, chunks: Sequence[bytes]) -> int:
    """Upload chunk by chunk as given, without looking at what is there; bytes the coordinator then holds."""
    call = link._stub.PutBlob()
    await link._write(call, blob_wire.put_header(header))
    if ACCEPT_KEY not in dict(await call.initial_metadata() or ()):
        await link._raise(call)
    for chunk in chunks:
        await link._write(call, blob_wire.put_chunk(chunk))
    await call.done_writing()
    response = await link._raise(call)
    return int(response.received)
