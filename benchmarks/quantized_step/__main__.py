"""What a quantised base costs and saves: `python -m benchmarks.quantized_step` (needs `fedcore fetch smollm2 kind`).

SmolLM2-135M in bfloat16 with LoRA of rank 8 on every prunable layer, its frozen weights as loaded, in int8 or in nf4,
whole and with half of the groups removed. Steps are of 8 rows x 64 tokens; the models take turns in every repeat, and
figures are medians. Memory is the peak of live tensors in the second step. Perplexity is that of the whole model
without adapters on definitions as plain text, so it tells what rounding the weights costs.
"""

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.report import Row, emit, parser
from fedcore.client.data.rows import Rows
from fedcore.client.training.trainer import ModelSource
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.quantization import FORMS
from fedcore.core.pruning.counts import keep_counts
from fedcore.core.tasks.generation import GENERATION
from fedcore.core.tasks.options import TaskOptions
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import attach, trainable_parameters
from fedcore.nn.model.quantized import quantize
from fedcore.nn.model.surgery import shrink
from fedcore.nn.training.batches import Batch, EncodedRows, collate
from fedcore.nn.training.evaluate import evaluate
from fedcore.nn.training.memory import LiveTensorMeter
from fedcore.nn.training.optimizer import make_optimizer
from fedcore.nn.training.train import training_step
from fedcore.storage.models.fetch import resolve

SPARSITIES = (0.0, 0.5)
RANK, SCALE = 8, 2.0
BATCH, TOKENS = 8, 64
TEXTS = 64  # rows that perplexity is measured on


@dataclass(slots=True, kw_only=True)
class Variant:
    """One model in one form, with its optimizer, and what was measured of it."""

    form: str
    sparsity: float
    classifier: Classifier
    optimizer: torch.optim.Optimizer
    memory_mb: float
    perplexity: float | None
    step_s: list[float]


def main() -> None:
    """Run the benchmark and report it."""
    options = parser("quantized_step", (__doc__ or "").partition("\n")[0])
    args = options.parse_args()
    torch.set_num_threads(1)
    source = ModelSource(
        folder=Path(resolve("fetch:smollm2", "model")),
        labels=(),
        head="auto",
        dtype="bfloat16",
        max_length=TOKENS,
        targets=(),
        task=GENERATION,
        options=TaskOptions(template="none"),
    )
    texts = _definitions(Path(resolve("fetch:kind", "data")))
    rows = source.encode(Rows(texts=tuple((text,) for text in texts), labels=("",) * len(texts)))
    made = [_variant(source, rows, form, sparsity) for sparsity in SPARSITIES for form in FORMS]
    batch = collate(rows, range(BATCH))
    for _ in range(3 if args.quick else 9):
        for variant in made:
            begin = time.process_time()
            training_step(variant.classifier, variant.optimizer, batch)
            variant.step_s.append(time.process_time() - begin)
    emit("quantized_step", [_row(variant, made) for variant in made], args, notes={"threads": 1, "dtype": "bfloat16"})


def _definitions(file: Path) -> list[str]:
    """Return the longest definitions of the first nouns, as many texts as are measured."""
    lines = file.read_text(encoding="utf-8").splitlines()[: 40 * TEXTS]
    prompts = [line.partition('"prompt": "')[2].partition("\\n")[0] for line in lines]
    return sorted(prompts, key=len, reverse=True)[:TEXTS]


def _variant(source: ModelSource, rows: EncodedRows, form: str, sparsity: float) -> Variant:
    classifier = source.load()
    geometry = classifier.geometry
    if sparsity:
        heads, channels = keep_counts(geometry, sparsity)[:2]
        kept = (tuple(range(heads)),) * geometry.layers, (tuple(range(channels)),) * geometry.layers
        shrink(classifier, KeepSet(heads=kept[0], channels=kept[1]))
    quantize(classifier, form)
    perplexity = None if sparsity else evaluate(classifier, rows).figures["perplexity"]
    attach(classifier, rank=RANK, scale=SCALE, targets=geometry.modules)
    optimizer = make_optimizer(trainable_parameters(classifier), learning_rate=1e-4, weight_decay=0.0)
    batch = collate(rows, range(BATCH))
    training_step(classifier, optimizer, batch)
    return Variant(
        form=form,
        sparsity=sparsity,
        classifier=classifier,
        optimizer=optimizer,
        memory_mb=_peak_mb(classifier, optimizer, batch),
        perplexity=perplexity,
        step_s=[],
    )


def _peak_mb(classifier: Classifier, optimizer: torch.optim.Optimizer, batch: Batch) -> float:
    with LiveTensorMeter(classifier.model, optimizer) as meter:
        training_step(classifier, optimizer, batch)
    return float(meter.peak_mb)


def _row(variant: Variant, made: Sequence[Variant]) -> Row:
    plain = next(each for each in made if each.form == "none" and each.sparsity == variant.sparsity)
    step_s = statistics.median(variant.step_s)
    return {
        "form": variant.form,
        "sparsity": variant.sparsity,
        "step_s": round(step_s, 3),
        "step_ratio": round(step_s / statistics.median(plain.step_s), 2),
        "peak_mb": round(variant.memory_mb, 1),
        "peak_ratio": round(variant.memory_mb / plain.memory_mb, 2),
        "perplexity": None if variant.perplexity is None else round(variant.perplexity, 2),
    }


if __name__ == "__main__":
    main()
