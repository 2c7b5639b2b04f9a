"""How much faster and leaner does a really pruned model train and infer? `python -m benchmarks.pruned_step`.

LoRA of rank 8 on every prunable layer, float32, at 0, 25, 50 and 75 % uniform sparsity. Weights are random in the
published shapes: neither time nor memory depends on their values. The models of one shape take turns in every
repeat, so that other load on the machine meets all of them alike; figures are medians. Memory is the peak of live
tensors in the second training step, when optimiser state stands. Inference is that of the merged model, as exported.
"""

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from benchmarks.report import Row, emit, parser
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.pruning.counts import keep_counts
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.lora import attach, merge, trainable_parameters
from fedcore.nn.model.model_folder import quiet
from fedcore.nn.model.surgery import shrink
from fedcore.nn.training.batches import Batch
from fedcore.nn.training.latency import interleaved_latency
from fedcore.nn.training.memory import LiveTensorMeter
from fedcore.nn.training.optimizer import make_optimizer
from fedcore.nn.training.train import training_step

SPARSITIES = (0.0, 0.25, 0.5, 0.75)
RANK, SCALE = 8, 2.0
GOALS = {"step_speedup": 1.7, "inference_ratio": 0.57, "memory_ratio": 0.75}  # at 50 %


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model shape and a batch of `rows` x `tokens`."""

    name: str
    config: dict[str, Any]
    rows: int
    tokens: int


MINILM = Case(
    name="MiniLM-L6",
    config={"model_type": "bert", "vocab_size": 30522, "hidden_size": 384, "num_hidden_layers": 6}
    | {"num_attention_heads": 12, "intermediate_size": 1536, "max_position_embeddings": 512},
    rows=16,
    tokens=64,
)
SMOLLM = Case(
    name="SmolLM2-135M",
    config={"model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "num_hidden_layers": 30}
    | {"num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536, "tie_word_embeddings": True},
    rows=8,
    tokens=64,
)


@dataclass(slots=True, kw_only=True)
class Variant:
    """One model at one sparsity, with its optimizer, and what was measured of it."""

    classifier: Classifier
    optimizer: torch.optim.Optimizer
    memory_mb: float
    step_s: list[float]


def main() -> None:
    """Run the benchmark and report it."""
    options = parser("pruned_step", (__doc__ or "").partition("\n")[0])
    options.add_argument("--repeats", type=int, default=0, help="timed repeats (default 9, quick 5)")
    options.add_argument("--threads", type=int, default=1, help="torch threads (default 1, as in a fleet)")
    args = options.parse_args()
    torch.set_num_threads(args.threads)
    repeats = args.repeats or (5 if args.quick else 9)
    rows: list[Row] = []
    for case in (MINILM,) if args.quick else (MINILM, SMOLLM):
        rows += measure(case, repeats)
    notes = {
        "weights": "random, in the published shapes",
        "dtype": "float32",
        "adapter": f"LoRA rank {RANK} on every prunable layer",
        "threads": args.threads,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "repeats": repeats,
        "goals at 50 %": GOALS,
    }
    emit("pruned_step", rows, args, notes=notes)


def measure(case: Case, repeats: int) -> list[Row]:
    """Return one row of figures per sparsity."""
    batch = make_batch(case)
    with tempfile.TemporaryDirectory() as folder:
        write_model(Path(folder), case)
        variants = {sparsity: make_variant(Path(folder), sparsity, batch) for sparsity in SPARSITIES}
    for _ in range(repeats):
        for variant in variants.values():
            start = time.perf_counter()
            training_step(variant.classifier, variant.optimizer, batch)
            variant.step_s.append(time.perf_counter() - start)
    for variant in variants.values():
        merge(variant.classifier)
    names = {str(sparsity): variant.classifier for sparsity, variant in variants.items()}
    latency = interleaved_latency(names, batch, 2 * repeats)
    return [row(case, sparsity, variants, latency) for sparsity in SPARSITIES]


def row(case: Case, sparsity: float, variants: dict[float, Variant], latency: dict[str, float]) -> Row:
    """Return the figures of one variant and their ratios to the unpruned one."""
    mine, dense = variants[sparsity], variants[0.0]
    heads, channels, _ = mine.classifier.keep_set.counts
    step_s, dense_step_s = statistics.median(mine.step_s), statistics.median(dense.step_s)
    return {
        "model": case.name,
        "batch": f"{case.rows} x {case.tokens}",
        "sparsity": round(mine.classifier.keep_set.sparsity(mine.classifier.geometry), 4),
        "head units": heads,
        "channels": channels,
        "parameters": mine.classifier.count_parameters(),
        "step ms": round(step_s * 1000, 1),
        "step_speedup": round(dense_step_s / step_s, 3),
        "inference ms": round(latency[str(sparsity)] * 1000, 1),
        "inference_ratio": round(latency[str(sparsity)] / latency["0.0"], 3),
        "live MiB": round(mine.memory_mb, 1),
        "memory_ratio": round(mine.memory_mb / dense.memory_mb, 3),
    }


def make_variant(folder: Path, sparsity: float, batch: Batch) -> Variant:
    """Load, cut evenly, attach the adapter; measure memory on the second step, which also warms up."""
    classifier = load_classifier(folder, labels=("no", "yes"))
    geometry = classifier.geometry
    heads, channels, _ = keep_counts(geometry, sparsity)
    keep = KeepSet(heads=(tuple(range(heads)),) * geometry.layers, channels=(tuple(range(channels)),) * geometry.layers)
    shrink(classifier, keep)
    attach(classifier, rank=RANK, scale=SCALE, targets=geometry.modules)
    optimizer = make_optimizer(trainable_parameters(classifier), learning_rate=1e-4, weight_decay=0.0)
    training_step(classifier, optimizer, batch)
    with LiveTensorMeter(classifier.model, optimizer) as meter:
        training_step(classifier, optimizer, batch)
    return Variant(classifier=classifier, optimizer=optimizer, memory_mb=meter.peak_mb, step_s=[])


def make_batch(case: Case) -> Batch:
    """Return full-length random rows."""
    drawn = torch.Generator().manual_seed(0)
    ids = torch.randint(10, case.config["vocab_size"], (case.rows, case.tokens), generator=drawn)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.arange(case.rows) % 2}


def write_model(folder: Path, case: Case) -> None:
    """Write random weights in the shape of `case`, and the smallest tokenizer that loads."""
    torch.manual_seed(0)
    model: Any = AutoModel.from_config(AutoConfig.for_model(**case.config))  # type: ignore[no-untyped-call]
    with quiet():
        model.save_pretrained(folder)
    tokenizer = Tokenizer(WordLevel({"[PAD]": 0, "[UNK]": 1}, unk_token="[UNK]"))
    wrapped: Any = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]"
    )
    wrapped.save_pretrained(folder)


if __name__ == "__main__":
    main()
