"""What do the codecs cost and save on real updates? `python -m benchmarks.codecs [--quick] [--accuracy] [--json FILE]`

Updates are the float32 increments of every device and round of the quickstart, rehearsed in one process with random
arms (benchmarks.rehearsal; needs `fedcore fetch minilm movies`), so ranks 4, 8 and 16 and sparsities up to 0.5 occur
as in a fleet. They are recorded once and kept in the cache. --accuracy rehearses another run under every codec.

Entropy is of order 0: the fewest bytes for a coder that knows every byte plane's frequencies and nothing of the order
of values, in planes of exponent and of sign and mantissa. "entropy" has the frequencies of a whole update, "tensor
entropy" every tensor's own, which is less, for scales differ from tensor to tensor. Tables of frequencies are free.
"""

import math
import statistics
import sys
import time
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.recording import Arrays, Recorded, quickstart, recorded
from benchmarks.rehearsal import rehearse
from benchmarks.report import Row, emit, parser
from fedcore.core.codec.cast import Cast
from fedcore.core.codec.chain import decode, encode
from fedcore.core.codec.feedback import Coordinates, Residual, carried, compensated, left_over
from fedcore.core.codec.grammar import parse_chain
from fedcore.core.config.tables import Config
from fedcore.core.contract.assignment import Assignment
from fedcore.core.errors import FedcoreError
from fedcore.core.model.adapter import Tensors
from fedcore.core.model.geometry import Geometry

CODECS = (
    "identity",
    "zstd",
    "bf16",
    "bf16+zstd",
    "fp16",
    "fp16+zstd",
    "int8",
    "int8+zstd",
    "int4",
    "int4+zstd",
    "topk:0.1+bf16+zstd",
    "topk:0.05+int8+zstd",
    "ef+int4+zstd",
    "ef+topk:0.05+int8+zstd",
)
RECORDED = ("strategy.bandit=random",)
FIXED_ARMS = (
    "strategy.bandit=fixed",
    "strategy.ranks=[8]",
    "strategy.warmup_rounds=2",
    "run.rounds=5",
    "fleet.class.agx.count=1",
    "fleet.class.nx.count=1",
    "fleet.class.tx2.count=1",
)
SHORT = ("run.rounds=2", "strategy.warmup_rounds=1", "strategy.recovery_rounds=0", "training.local_steps=3")
GOALS = {
    "bf16+zstd of bf16": "<= 0.72, or at most 3 % over the entropy",
    "bf16+zstd decode": ">= 300 MB/s on one core of decoded bfloat16, which is 600 of the float32 shown",
}


def main() -> int:
    """Run the benchmark and report it."""
    made = parser("codecs", "Size, speed and error of update codecs, on updates recorded from a run.")
    made.add_argument("--accuracy", action="store_true", help="also the final accuracy under every codec (ten minutes)")
    args = made.parse_args()
    torch.set_num_threads(1)
    try:
        _report(args)
    except FedcoreError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def measure(updates: Sequence[Recorded], codecs: Iterable[str], repeats: int) -> list[Row]:
    """Return one row per codec over all `updates`; codecs take turns in every repeat, times are medians."""
    timings: dict[str, list[tuple[float, float]]] = {codec: [] for codec in codecs}
    for _ in range(repeats):
        for codec, times in timings.items():
            times.append(_timed(updates, codec))
    plain = sum(len(encode(update.tensors, "bf16")) for update in updates)
    return [_row(updates, codec, times, plain) for codec, times in timings.items()]


def plane_entropy_bytes(values: NDArray[Any]) -> float:
    """Return the order-0 entropy, in bytes, of the planes of a float array: exponent first, sign last."""
    width = values.dtype.itemsize
    bits = np.ascontiguousarray(values).reshape(-1).view(f"<u{width}")
    turned = (bits << 1) | (bits >> (8 * width - 1))
    return sum(_entropy_bytes((turned >> (8 * plane)).astype(np.uint8)) for plane in range(width))


@dataclass(slots=True, kw_only=True)
class Channel:
    """Carries updates through a codec, with error feedback where it says so, as devices do."""

    codec: str
    geometry: Geometry
    residuals: dict[str, Residual] = field(default_factory=dict)

    def carry(self, assignment: Assignment, increment: Arrays) -> Tensors:
        """Return the update as the coordinator decodes it."""
        if not parse_chain(self.codec).feedback:
            return self._through(increment)
        now = Coordinates(basis="", rank=assignment.arm.rank, keep_set=assignment.keep_set)
        residual = carried(self.residuals.get(assignment.device), increment, now, self.geometry)
        sent = compensated(increment, residual)
        received = self._through(sent)
        self.residuals[assignment.device] = Residual(at=now, tensors=left_over(sent, received))
        return received

    def _through(self, tensors: Tensors) -> Tensors:
        return dict(decode(encode(tensors, self.codec)))


def train_under(config: Config, codec: str) -> Row:
    """Rehearse `config` with every update through `codec`; return final figures on all held-back rows."""
    run = rehearse(config)
    channel = Channel(codec=codec, geometry=run.strategy.spec.geometry)
    for _ in run.rounds(channel.carry):
        pass
    metrics = run.metrics()
    return {name: metrics.figures[name] for name in ("accuracy", "loss")}


def _report(args: Namespace) -> None:
    short = SHORT if args.quick else ()
    updates = recorded(quickstart([*RECORDED, *short]), _say)
    rows = measure(updates, CODECS, repeats=3)
    notes: dict[str, Any] = {
        "goals": GOALS,
        "updates": f"{len(updates)} of {updates[-1].round} rounds, ranks {sorted({one.rank for one in updates})}, "
        f"{sum(update.values for update in updates) * 4 / 1e6:.0f} MB of float32",
        "bf16+zstd by rank": _by_rank(updates, "bf16+zstd"),
        "MB/s": "of float32 in and out, CPU time of one thread, median of 3; decoding reads every tensor once",
    }
    if args.accuracy:
        rows = _with_accuracy(rows, quickstart([*FIXED_ARMS, *short]))
        notes["accuracy"] = (
            "after 5 rounds of 3 devices (10 steps, rank 8, cut to sparsity 0.2, 0.35 and 0.5), equal seed and arms; "
            "dense model, all held-back rows, of which one standard error is 0.009"
        )
    emit("codecs", rows, args, notes=notes)


def _with_accuracy(rows: Sequence[Row], config: Config) -> list[Row]:
    """Add accuracy and loss to every row; entropy coding changes no value, so that codecs share runs."""
    figures: dict[str, Row] = {}
    for row in rows:
        values = _same_values(row["codec"])
        if values not in figures:
            figures[values] = train_under(config, values)
            _say(f"{values}: accuracy {figures[values]['accuracy']:.4f}")
    return [{**row, **figures[_same_values(row["codec"])]} for row in rows]


def _same_values(codec: str) -> str:
    return codec.removesuffix("zstd").removesuffix("+") or "identity"


def _timed(updates: Sequence[Recorded], codec: str) -> tuple[float, float]:
    """Return CPU seconds of encoding and of decoding all updates, which other load on the machine does not lengthen."""
    encode_s = decode_s = 0.0
    for update in updates:
        shapes = {name: value.shape for name, value in update.tensors.items()}
        begin = time.thread_time()
        data = encode(update.tensors, codec)
        encoded = time.thread_time()
        for _ in decode(data, shapes=shapes).values():
            pass
        encode_s, decode_s = encode_s + encoded - begin, decode_s + time.thread_time() - encoded
    return encode_s, decode_s


def _row(updates: Sequence[Recorded], codec: str, times: Sequence[tuple[float, float]], plain: int) -> Row:
    raw = 4 * sum(update.values for update in updates)
    encoded = [encode(update.tensors, codec) for update in updates]
    size = sum(map(len, encoded))
    return {
        "codec": codec,
        "of f32": size / raw,
        "of bf16": size / plain,
        "enc MB/s": raw / 1e6 / statistics.median(encode_s for encode_s, _ in times),
        "dec MB/s": raw / 1e6 / statistics.median(decode_s for _, decode_s in times),
        "error": _error(updates, encoded),
        **_against_entropy(updates, codec, size),
    }


def _by_rank(updates: Sequence[Recorded], codec: str) -> Mapping[int, Row]:
    """Return the row's first figures for the updates of each rank: the fewer values, the more the rest weighs."""
    chosen = {
        rank: [update for update in updates if update.rank == rank] for rank in {update.rank for update in updates}
    }
    kept = ("of bf16", "enc MB/s", "dec MB/s", "over %", "over t. %")
    found = {rank: measure(chosen[rank], [codec], repeats=3)[0] for rank in sorted(chosen)}
    return {rank: {key: float(f"{row[key]:.4g}") for key in kept} for rank, row in found.items()}


def _error(updates: Sequence[Recorded], encoded: Sequence[bytes]) -> float:
    """Return the L2 norm of all that was lost over that of all that was sent."""
    lost = total = 0.0
    for update, data in zip(updates, encoded, strict=True):
        for name, back in decode(data).items():
            value = update.tensors[name].astype(np.float64)
            lost, total = lost + float(np.sum((back - value) ** 2)), total + float(np.sum(value**2))
    return math.sqrt(lost / total)


def _against_entropy(updates: Sequence[Recorded], codec: str, size: int) -> Mapping[str, float]:
    """Return the entropies of what the entropy coder was given, over its raw bytes, and how far the size is above."""
    chain = parse_chain(codec)
    cast = chain.format
    if not (chain.compress and isinstance(cast, Cast) and chain.share is None):
        return {}
    whole = tensor = raw = 0.0
    for update in updates:
        stored = [cast.narrow(value).reshape(-1) for value in update.tensors.values()]
        whole += plane_entropy_bytes(np.concatenate(stored))
        tensor += sum(map(plane_entropy_bytes, stored))
        raw += sum(value.nbytes for value in stored)
    return {
        "entropy": whole / raw,
        "over %": 100 * (size / whole - 1),
        "tensor entropy": tensor / raw,
        "over t. %": 100 * (size / tensor - 1),
    }


def _entropy_bytes(plane: NDArray[np.uint8]) -> float:
    counts = np.bincount(plane, minlength=256)
    counts = counts[counts > 0]
    return float(np.sum(counts * np.log2(plane.size / counts))) / 8


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
