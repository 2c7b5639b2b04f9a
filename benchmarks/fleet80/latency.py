"""Inference time of the model cut to each sparsity, measured once per track: it does not depend on who trained it."""

import json
from datetime import datetime, timezone
from pathlib import Path

import torch

from benchmarks.fleet80.plan import Plan
from benchmarks.report import machine
from fedcore.core.pruning.counts import keep_counts
from fedcore.core.pruning.ordering import initial_order, keep_set
from fedcore.core.tasks.table import task_of
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.surgery import shrink
from fedcore.nn.training.latency import interleaved_latency
from fedcore.storage.models.model_source import model_folder

FILE = "latency.json"
SPARSITIES = (0.3, 0.5, 0.7)
ROWS, REPEATS = 16, 31
FIRST_TOKEN = 5  # any token does: time does not depend on which


def measure_latency(plan: Plan) -> Path:
    """Measure the dense model and every cut, taking turns in one process, and store the medians."""
    config = plan.case_config()
    model, task = config.model, task_of(config)
    folder = model_folder(model.path)
    models = {}
    for sparsity in (0.0, *SPARSITIES):
        classifier = load_classifier(folder, labels=("a", "b"), head=model.head, dtype=model.dtype, task=task)
        geometry = classifier.geometry
        kept = keep_set(initial_order(geometry), geometry, keep_counts(geometry, sparsity))
        if sparsity:
            shrink(classifier, kept)
        models[f"{kept.sparsity(geometry):.4f}"] = classifier
    tokens = torch.full((ROWS, model.max_length), FIRST_TOKEN)
    times = interleaved_latency(models, {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}, REPEATS)
    dense = times[f"{0.0:.4f}"]
    rows = [
        {"sparsity": float(name), "latency_s": seconds, "ratio": seconds / dense} for name, seconds in times.items()
    ]
    path = plan.results / plan.track.name / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    heading = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(),
        "repeats": REPEATS,
        "batch": ROWS,
        "tokens": model.max_length,
    }
    path.write_text(json.dumps({**heading, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    return path
