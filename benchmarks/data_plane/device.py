"""A process of light devices: python -m benchmarks.data_plane.device SPEC.json

They join, fetch, store, hash and upload as `fedcore join` does, over the same link, but do not train: every assignment
is answered with an update of the right shapes whose values differ by device and round. No torch is imported. Per device
and round one line of times (seconds of the machine's monotonic clock) goes to the trace.
"""

import asyncio
import json
import sys
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.data_plane.case import LABELS, MAX_LENGTH, spec_of
from fedcore.core.codec.chain import encode_chunks
from fedcore.core.contract.outcome import DeviceReport, TrainingMetrics
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.core.model.geometry import Geometry, geometry_from_config
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.tier_values import AnyDownward
from fedcore.protos.values import BlobRef, Join, Role, UpdateSubmission, UploadHeader, Welcome, WireAssignment
from fedcore.protos.wire import INLINE_BYTES, PROTOCOL
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.pki.certificates import load_material
from fedcore.transport.link import Link, LinkSettings, Stream
from fedcore.transport.parent_connection import ParentConnection
from fedcore.transport.payload import fetch_all
from fedcore.transport.retry import retrying
from fedcore.transport.throttle import Throttle

CERTIFICATE = "light"


@dataclass(slots=True, kw_only=True)
class LightDevice:
    """One device: everything but a model."""

    name: str
    link: Link
    mark: Fingerprint
    geometry: Geometry
    blobs: BlobStore
    trace: Path
    _session: str = ""
    _epoch: int = 0
    _held: set[str] = field(default_factory=set)

    async def run(self) -> str:
        """Stay until the run is over."""
        try:
            return await ParentConnection(
                link=self.link,
                make_join=self._join,
                on_welcome=self._welcome,
                on_message=self._message,
                say=lambda text: print(self.name, text, flush=True),
            ).run()
        finally:
            await self.link.close()

    async def _join(self) -> Join:
        self._epoch += 1  # as a real device's state folder does: one that lost its connection is not stale
        return Join(
            protocol_min=PROTOCOL,
            protocol_max=PROTOCOL,
            role=Role.DEVICE,
            name=self.name,
            device_uuid=self.name,
            epoch=self._epoch,
            profile=DeviceProfile(name=self.name, device_class=CERTIFICATE, num_examples=1),
            fingerprint=self.mark,
            max_length=MAX_LENGTH,
            labels=LABELS,
        )

    async def _welcome(self, welcome: Welcome, stream: Stream) -> None:
        self._session = welcome.session

    async def _message(self, message: AnyDownward, stream: Stream) -> None:
        if isinstance(message, WireAssignment):
            await self._answer(message, stream)

    async def _answer(self, assignment: WireAssignment, stream: Stream) -> None:
        begin = time.monotonic()
        refs = assignment.refs
        received = await retrying(lambda: fetch_all(self.link, self.blobs, refs))
        fetched = time.monotonic()
        update = await asyncio.to_thread(self._made, assignment)
        for blob_id in self._held - {ref.id for ref in refs}:
            self.blobs.delete(blob_id)
        self._held = {ref.id for ref in refs if not ref.inline} | {update.id}
        made = time.monotonic()
        ref, sent = await self._delivered(update, assignment)
        uploaded = time.monotonic()
        report = DeviceReport(
            metrics=TrainingMetrics(
                loss_before=1.0,
                loss_after=1.0,
                train_loss=1.0,
                peak_memory_mb=1.0,
                adapter_importance=0.0,
            ),
            phase_s={"download": fetched - begin, "encode": made - fetched, "upload": uploaded - made},
            num_examples=1,
            steps=0,
            bytes_down=received,
            bytes_up=sent,
        )
        await stream.send(
            UpdateSubmission(
                round=assignment.round, update=ref, scores=None, keep_set=assignment.keep_set.id, report=report
            )
        )
        self._note(assignment.round, (begin, fetched, made, uploaded), (received, sent))

    def _made(self, assignment: WireAssignment) -> BlobRef:
        blob_id = self.blobs.put_chunks(encode_chunks(self._increment(assignment), assignment.training.codec))
        return BlobRef(id=blob_id, size=self.blobs.size(blob_id), name="update")

    async def _delivered(self, update: BlobRef, assignment: WireAssignment) -> tuple[BlobRef, int]:
        if update.size <= INLINE_BYTES:
            return await self.link.pack(update, self.blobs.read_bytes(update.id)), update.size

        async def upload() -> int:
            header = UploadHeader(
                blob=update, offset=0, sender=self.name, session=self._session, round=assignment.round
            )
            return await self.link.upload(self.blobs.view(update.id), header)

        return update, await retrying(upload)

    def _increment(self, assignment: WireAssignment) -> Mapping[str, NDArray[np.float32]]:
        shapes = spec_of(self.geometry, assignment.arm.rank).shapes(keep_set=KeepSet.full(self.geometry))
        value = np.float32(1e-6) * (1 + zlib.crc32(f"{self.name}/{assignment.round}".encode()) % 1000)
        return {name: np.broadcast_to(value, shape) for name, shape in shapes.items()}

    def _note(self, number: int, times: tuple[float, ...], bytes_moved: tuple[int, int]) -> None:
        with self.trace.open("a", encoding="utf-8") as file:
            file.write(json.dumps([self.name, number, *times, *bytes_moved]) + "\n")


async def run_devices(spec: Mapping[str, Any]) -> None:
    """Run the devices of one process to the end of the run."""
    tls = load_material(Path(spec["certs"]), CERTIFICATE) if spec["certs"] else None
    geometry, mark = geometry_from_config(spec["model"]), Fingerprint(**spec["fingerprint"])

    def light(name: str) -> LightDevice:
        unlimited = Throttle(0.0)
        settings = LinkSettings(targets=(spec["target"],), tls=tls, uplink=unlimited, downlink=unlimited)
        place = Path(spec["folder"]) / name
        return LightDevice(
            name=name,
            link=Link(settings),
            mark=mark,
            geometry=geometry,
            blobs=BlobStore(place),
            trace=Path(spec["trace"]),
        )

    await asyncio.gather(*(light(name).run() for name in spec["names"]))


if __name__ == "__main__":
    asyncio.run(run_devices(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
