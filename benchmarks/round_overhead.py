"""What a round costs when no device trains: python -m benchmarks.round_overhead [--quick] [--json FILE]

A real coordinator process (mutual TLS, default durability), and 2, 10 and 100 devices that answer every assignment
at once with an update of about 1 kB. They fetch the hand-out and upload like any device; only the training is left
out. A round's cost is the time from one round's close to the next, as the coordinator logged it.
"""

import asyncio
import hashlib
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from benchmarks.report import emit, parser
from fedcore.core.codec.chain import encode
from fedcore.core.config.toml import parse_config
from fedcore.core.contract.outcome import DeviceReport, TrainingMetrics
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.core.model.geometry import Geometry, geometry_from_config
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.tier_values import AnyDownward
from fedcore.protos.values import BlobRef, Join, Role, UpdateSubmission, Welcome, WireAssignment
from fedcore.protos.wire import PROTOCOL
from fedcore.server.run.journal import read_events
from fedcore.storage.blobs.store import BlobStore
from fedcore.storage.models.checkpoint import fingerprint
from fedcore.storage.pki.authority import create_authority, issue
from fedcore.storage.pki.certificates import load_material
from fedcore.transport.link import Link, LinkSettings, Stream
from fedcore.transport.parent_connection import ParentConnection
from fedcore.transport.payload import fetch_all
from fedcore.transport.throttle import Throttle

MODEL = {
    "model_type": "bert",
    "num_hidden_layers": 1,
    "hidden_size": 12,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "vocab_size": 8,
    "max_position_embeddings": 8,
    "type_vocab_size": 2,
}
MAX_LENGTH = 8
WARM_UP = 3
LABELS = ("a", "b")


def write_model(folder: Path) -> Geometry:
    """Write a base model of a few hundred parameters; no device ever loads it."""
    folder.mkdir(parents=True)
    geometry = geometry_from_config(MODEL)
    (folder / "config.json").write_text(json.dumps(MODEL), encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
    rng = np.random.default_rng(0)
    paths = {
        "q": "attention.self.query",
        "k": "attention.self.key",
        "v": "attention.self.value",
        "o": "attention.output.dense",
        "up": "intermediate.dense",
        "down": "output.dense",
    }
    tensors = {
        f"encoder.layer.0.{path}.weight": rng.standard_normal(geometry.shape(name)).astype(np.float32)
        for name, path in paths.items()
    }
    save_file(tensors, folder / "model.safetensors")
    return geometry


class IdleDevice:
    """Answers every assignment with a zero update."""

    def __init__(self, name: str, target: str, certs: Path, mark: Fingerprint, geometry: Geometry, place: Path) -> None:
        self.name, self.mark, self.geometry = name, mark, geometry
        self.blobs = BlobStore(place / name)
        self.fetched: set[str] = set()
        self.link = Link(
            LinkSettings(
                targets=(target,),
                tls=load_material(certs, "idle"),
                uplink=Throttle(0.0),
                downlink=Throttle(0.0),
            )
        )

    async def run(self) -> str:
        """Stay until the run is over."""
        try:
            return await ParentConnection(
                link=self.link,
                make_join=self._join,
                on_welcome=self._welcome,
                on_message=self._message,
                say=lambda _: None,
            ).run()
        finally:
            await self.link.close()

    async def _join(self) -> Join:
        return Join(
            protocol_min=PROTOCOL,
            protocol_max=PROTOCOL,
            role=Role.DEVICE,
            name=self.name,
            device_uuid=self.name,
            epoch=1,
            profile=DeviceProfile(name=self.name, device_class="idle", num_examples=1),
            fingerprint=self.mark,
            max_length=MAX_LENGTH,
            labels=LABELS,
        )

    async def _welcome(self, welcome: Welcome, stream: Stream) -> None:
        pass

    async def _message(self, message: AnyDownward, stream: Stream) -> None:
        if not isinstance(message, WireAssignment):
            return
        refs = message.refs
        received = await fetch_all(self.link, self.blobs, refs)
        for blob_id in self.fetched - {ref.id for ref in refs}:
            self.blobs.delete(blob_id)
        self.fetched = {ref.id for ref in refs}
        data = encode(self._zeros(message), message.training.codec)
        ref = BlobRef(id="sha256:" + hashlib.sha256(data).hexdigest(), size=len(data), inline=data)
        report = DeviceReport(
            metrics=TrainingMetrics(
                loss_before=1.0,
                loss_after=1.0,
                train_loss=1.0,
                peak_memory_mb=1.0,
                adapter_importance=0.0,
            ),
            phase_s={},
            num_examples=1,
            steps=0,
            bytes_down=received,
            bytes_up=len(data),
        )
        await stream.send(
            UpdateSubmission(round=message.round, update=ref, scores=None, keep_set=message.keep_set.id, report=report)
        )

    def _zeros(self, assignment: WireAssignment) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        spec = AdapterSpec(
            geometry=self.geometry,
            rank=assignment.arm.rank,
            targets=self.geometry.modules,
            head=(("head.bias", (len(LABELS),)), ("head.weight", (len(LABELS), self.geometry.hidden))),
        )
        shapes = spec.shapes(keep_set=KeepSet.full(self.geometry))
        value = np.float32(1e-6) * (1 + zlib.crc32(f"{self.name}/{assignment.round}".encode()) % 1000)
        return {name: np.full(shape, value, dtype=np.float32) for name, shape in shapes.items()}


def measure(devices: int, rounds: int, folder: Path) -> dict[str, float]:
    """Return figures of one fleet: seconds per round (median, p90), bytes of one update, coordinator memory."""
    geometry = write_model(folder / "model")
    certs = folder / "certs"
    create_authority(certs)
    issue(certs, "coordinator", kind="coordinator")
    issue(certs, "idle", kind="class")
    run = folder / "run"
    run.mkdir()
    config = run / "config.toml"
    config.write_text(_config(folder / "model", devices, rounds), encoding="utf-8")
    parse_config(config.read_text(encoding="utf-8"))
    command = [
        sys.executable,
        "-m",
        "fedcore.cli.main",
        "serve",
        str(config),
        "--run-dir",
        str(run),
        "--certs",
        str(certs),
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as coordinator:
        try:
            target = asyncio.run(_address(run / "coordinator.json", coordinator))
            mark = fingerprint(folder / "model")
            names = [f"idle-{number}" for number in range(devices)]
            asyncio.run(_all(names, target, certs, mark, geometry, folder / "devices"))
            coordinator.wait(60)
        finally:
            coordinator.kill()
    closed = [event for event in read_events(run / "events.jsonl") if event["event"] == "round_closed"]
    times = [event["t"] for event in closed][WARM_UP:]
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(times))
    return {
        "devices": devices,
        "rounds": len(gaps),
        "median_ms": statistics.median(gaps) * 1e3,
        "p90_ms": gaps[int(len(gaps) * 0.9)] * 1e3,
        "update_bytes": closed[-1]["bytes_up"] / devices,
    }


async def _all(
    names: Sequence[str], target: str, certs: Path, mark: Fingerprint, geometry: Geometry, place: Path
) -> None:
    devices = [IdleDevice(name, target, certs, mark, geometry, place) for name in names]
    await asyncio.gather(*(device.run() for device in devices))


async def _address(path: Path, process: "subprocess.Popen[bytes]") -> str:
    for _ in range(300):
        if path.is_file():
            return str(json.loads(path.read_text(encoding="utf-8"))["address"])
        if process.poll() is not None:
            break
        await asyncio.sleep(0.1)
    raise SystemExit("the coordinator did not start; run the serve command by hand to see why")


def _config(model: Path, devices: int, rounds: int) -> str:
    return f"""
[run]
name = "overhead"
rounds = {rounds}
[model]
path = "{model}"
max_length = {MAX_LENGTH}
[data]
labels = ["a", "b"]
[strategy]
name = "fedavg-lora"
ranks = [1]
target_sparsity = 0.0
[training]
codec = "identity"
[coordinator]
min_devices = {devices}
[evaluation]
rows_per_round = 0
"""


def main() -> None:
    """Measure every fleet size and report."""
    arguments = parser("round_overhead", "What a round costs when nobody trains.").parse_args()
    rows = []
    for devices in (2, 10) if arguments.quick else (2, 10, 100):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(devices, 20 if arguments.quick else 60, Path(folder)))
    notes = {"goal": "median below 20 ms with 10 devices", "tls": "mutual", "durability": "default"}
    emit("round_overhead", rows, arguments, notes=notes)


if __name__ == "__main__":
    main()
