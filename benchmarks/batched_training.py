"""How much faster do virtual devices train together than one by one? `python -m benchmarks.batched_training`.

MiniLM (`fedcore fetch minilm movies`), LoRA of rank 8 on every prunable layer, float32; devices hold movie reviews, or
rows of 48 random tokens where every row shall be as long. Both ways take turns in every repeat, so that other load on
the machine meets both alike; one by one, a sample of the devices is timed. Times are the fastest repeat's, per
device, with everything a round takes: load the adapter, train, take the increment; those of the processors hold also
on a busy machine. Adam turns a gradient that is
nothing but rounding into a step of full length, so a few values always differ: their share is reported.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.report import Row, emit, parser
from fedcore.client.data.rows import label_ids, label_list
from fedcore.client.data.shards import training_rows
from fedcore.client.options import DataOptions
from fedcore.core.contract.assignment import TrainingSpec
from fedcore.nn.batched.train import BatchTrained, VirtualTask, default_tokens, train_batched
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.load import load_classifier, load_tokenizer
from fedcore.nn.model.lora import attach, load_adapter, read_adapter
from fedcore.nn.training.batches import EncodedRows, encode_rows
from fedcore.nn.training.memory import MIB
from fedcore.nn.training.train import TrainResult, train
from fedcore.storage.models.model_source import model_folder

RANK, SCALE = 8, 2.0
MAX_LENGTH = 64
TOLERANCE = 1e-5
DATA = DataOptions(train="fetch:movies", test=None, text=("text",), label="label", test_fraction=0.2)

Arrays = dict[str, NDArray[np.float32]]
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Devices of `rows` rows each, of `tokens` random tokens or, at 0, movie reviews; `batch` rows a step."""

    devices: int
    rows: int
    batch: int
    steps: int
    tokens: int = 0


QUICK = (Case(devices=16, rows=8, batch=8, steps=1),)
CASES = (
    Case(devices=64, rows=8, batch=8, steps=1),
    Case(devices=64, rows=8, batch=8, steps=3),
    Case(devices=256, rows=8, batch=8, steps=1),
    Case(devices=16, rows=32, batch=16, steps=10, tokens=48),
)


def main() -> None:
    """Run the benchmark and report it."""
    options = parser("batched_training", (__doc__ or "").partition("\n")[0])
    options.add_argument("--repeats", type=int, default=0, help="timed repeats (default 3, quick 1)")
    options.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="torch threads (default 1 and 2)")
    args = options.parse_args()
    rows = [
        measure(case, threads, args.repeats or (1 if args.quick else 3))
        for threads in args.threads
        for case in (QUICK if args.quick else CASES)
    ]
    notes = {
        "model": "MiniLM-L6, float32",
        "adapter": f"LoRA rank {RANK} on every prunable layer",
        "torch": torch.__version__,
        "over 1e-5": "increments that differ by more, of all compared",
    }
    shown = ("threads", "devices", "rows", "steps", "one by one ms", "batched ms", "speedup", "CPU speedup")
    emit("batched_training", rows, args, notes=notes, shown=shown)


def measure(case: Case, threads: int, repeats: int) -> Row:
    """Return the figures of one case."""
    torch.set_num_threads(threads)
    folder = model_folder("fetch:minilm")
    classifier = load_classifier(folder, labels=("negative", "positive"))
    attach(classifier, rank=RANK, scale=SCALE, targets=classifier.geometry.modules)
    before = started(classifier)
    tasks = [VirtualTask(rows=shard, seed=seed) for seed, shard in enumerate(shards(case))]
    sample = tasks[:: max(1, len(tasks) // (4 if case.steps > 3 else 8))]
    spec = make_spec(case.batch)
    together: list[NDArray[np.float64]] = []
    alone: list[NDArray[np.float64]] = []
    for _ in range(repeats):
        took, batched = timed(
            lambda: train_batched(classifier, before, tasks, spec=spec, steps=case.steps, score=False), len(tasks)
        )
        together.append(took)
        took, singly = timed(
            lambda: [one_by_one(classifier, before, task, spec, case.steps) for task in sample], len(sample)
        )
        alone.append(took)
    batched_ms, alone_ms = np.min(together, axis=0), np.min(alone, axis=0)
    values = sum(value.size for value in before.values())
    return {
        "threads": threads,
        "devices": case.devices,
        "rows": case.rows,
        "tokens a row": case.tokens or round(float(np.mean([n for task in tasks for n in task.rows.lengths])), 1),
        "batch": case.batch,
        "steps": case.steps,
        "one by one ms": round(alone_ms[0], 1),
        "batched ms": round(batched_ms[0], 1),
        "speedup": round(alone_ms[0] / batched_ms[0], 2),
        "one by one CPU ms": round(alone_ms[1], 1),
        "batched CPU ms": round(batched_ms[1], 1),
        "CPU speedup": round(alone_ms[1] / batched_ms[1], 2),
        "state MiB a device": round(12 * values / MIB, 2),
        "tokens a pass": default_tokens(classifier),
        **differences(batched, singly, [task.seed for task in sample]),
    }


def differences(
    batched: BatchTrained, singly: Sequence[tuple[TrainResult, Arrays]], devices: Sequence[int]
) -> dict[str, float]:
    """Return how far the two ways are apart."""
    losses, increments = [0.0], []
    for device, (result, increment) in zip(devices, singly, strict=True):
        got = batched.results[device]
        if not isinstance(got, TrainResult):
            raise got
        losses += [
            abs(getattr(got.metrics, name) - getattr(result.metrics, name))
            for name in ("train_loss", "loss_before", "loss_after")
        ]
        increments += [np.abs(batched.increments[name][device] - value).ravel() for name, value in increment.items()]
    apart = np.concatenate(increments)
    return {
        "loss apart": float(f"{max(losses):.2g}"),
        "increment apart": float(f"{apart.max():.2g}"),
        "over 1e-5": float(f"{(apart > TOLERANCE).mean():.2g}"),
    }


def one_by_one(
    classifier: Classifier, before: Arrays, task: VirtualTask, spec: TrainingSpec, steps: int
) -> tuple[TrainResult, Arrays]:
    """Train one device as a device does."""
    load_adapter(classifier, before)
    result = train(classifier, task.rows, spec=spec, steps=steps, seed=task.seed)
    after = read_adapter(classifier)
    load_adapter(classifier, before)
    return result, {name: after[name] - before[name] for name in before}


def shards(case: Case) -> list[EncodedRows]:
    """Return every device's rows."""
    rng = np.random.default_rng(0)
    if case.tokens:
        return [random_rows(rng, case) for _ in range(case.devices)]
    rows, tokenizer = training_rows(DATA), load_tokenizer(model_folder("fetch:minilm"))
    labels = label_ids(rows, label_list(rows))
    encoded = encode_rows(tokenizer, rows.texts, labels.tolist(), MAX_LENGTH)
    order = rng.permutation(len(encoded))
    chosen = [order[np.arange(i * case.rows, (i + 1) * case.rows) % len(order)] for i in range(case.devices)]
    return [selected(encoded, indices) for indices in chosen]


def selected(rows: EncodedRows, indices: NDArray[np.int64]) -> EncodedRows:
    """Return some of the rows."""
    return dataclasses.replace(
        rows,
        token_ids=tuple(rows.token_ids[i] for i in indices),
        segment_ids=tuple(rows.segment_ids[i] for i in indices),
        labels=rows.labels[indices],
    )


def random_rows(rng: np.random.Generator, case: Case) -> EncodedRows:
    """Return rows of one length."""
    ids = rng.integers(1000, 30000, (case.rows, case.tokens)).tolist()
    return EncodedRows(token_ids=tuple(map(tuple, ids)), segment_ids=(), labels=rng.integers(0, 2, case.rows), pad_id=0)


def started(classifier: Classifier) -> Arrays:
    """Return an adapter that does something already: B is not zero."""
    rng = np.random.default_rng(0)
    return {
        name: (rng.normal(size=value.shape) * 0.01).astype(np.float32) if name.endswith(".B") else value
        for name, value in read_adapter(classifier).items()
    }


def make_spec(batch_size: int) -> TrainingSpec:
    """Return the quickstart's training."""
    return TrainingSpec(
        batch_size=batch_size,
        learning_rate=2e-3,
        weight_decay=0.0,
        lora_scale=SCALE,
        importance="taylor",
        keep_optimizer=False,
        codec="identity",
    )


def timed(work: Callable[[], T], devices: int) -> tuple[NDArray[np.float64], T]:
    """Return the milliseconds `work` took per device, of the wall clock and of all processors, and what it returned."""
    start, cpu = time.perf_counter(), time.process_time()
    result = work()
    return np.array([time.perf_counter() - start, time.process_time() - cpu]) * 1000 / devices, result


if __name__ == "__main__":
    main()
