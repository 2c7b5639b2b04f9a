"""Results made up for tests: ten virtual seconds and three megabytes a round."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.fleet80.bits import packed
from benchmarks.fleet80.cases.case import Case, changed

ROWS = 200


def rounds(accuracies: Sequence[float], *, seconds: float = 10.0) -> list[dict[str, Any]]:
    return [
        {
            "round": number,
            "void": False,
            "closed_s": seconds * number,
            "duration_s": seconds,
            "wait_s": 0.4 * seconds,
            "download_s": 0.2 * seconds,
            "compute_s": 0.3 * seconds,
            "upload_s": 0.1 * seconds,
            "bytes_down": 2_000_000 * number,
            "bytes_up": 1_000_000 * number,
            "devices": 10,
            "counted": 10,
            "sparsity": 0.5,
            "loss_before": 0.6,
            "peak_memory_mb": 100.0,
            "classes": {"nx": {"devices": 10, "sparsity": 0.5, "rank": 8.0, "steps": 10.0}},
            "delivered": {"accuracy": accuracy, "auc": 0.8, "loss": 0.5, "sparsity": 0.5},
            "dense": None,
        }
        for number, accuracy in enumerate(accuracies, start=1)
    ]


def model(accuracy: float, share: float, seed: int = 0) -> dict[str, Any]:
    right = np.random.default_rng(seed).permutation(ROWS) < round(accuracy * ROWS)
    figures = {"accuracy": accuracy, "auc": 0.8, "loss": 0.5, "sparsity": 0.5, "parameters": 10_000_000}
    return {**figures, "rows": ROWS, "right": packed(right), "share": share}


def result(case: Case, accuracy: float, *, seconds: float, prunes: bool) -> dict[str, Any]:
    final = {"dense": model(accuracy, 0.0 if prunes else 1.0)}
    if prunes:
        final["tx2+nx+agx"] = model(accuracy, 1.0, seed=1)
    steps = [0.5 + (accuracy - 0.5) * min(1.0, number / 6) for number in range(1, 13)]
    return {
        "benchmark": "fleet80",
        "track": case.track.name,
        "variant": case.variant.name,
        "strategy": case.config.strategy.name,
        "prunes": prunes,
        "seed": case.seed,
        "learning_rate": case.rate,
        "tuning": case.tuning,
        "hash": case.hash,
        "rounds": rounds(steps, seconds=seconds),
        "final": final,
        "config": changed(case.config),
    }
