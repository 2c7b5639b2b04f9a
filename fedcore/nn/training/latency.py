"""The inference latency of several models, measured interleaved in one process."""

import itertools
import math
import statistics
import time
from collections.abc import Callable, Mapping

import torch

from fedcore.core.errors import ConfigError
from fedcore.nn.accelerator.clock import synchronised
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.training.batches import Batch
from fedcore.nn.training.evaluate import forward_logits

WARM_UP = 2  # passes per model before the clock counts
FEWEST = 3  # repeats, however long they take


def interleaved_latency(
    models: Mapping[str, Classifier],
    batch: Batch,
    repeats: int,
    *,
    most_s: float = math.inf,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Return the median seconds of one forward pass over `batch`, by model name.

    Models take turns within every repeat, so that a busy machine slows all of them alike; the
    ratios are more reliable than the figures. No repeat begins after `most_s` seconds of measured passes, but for the
    first FEWEST. `clock` returns seconds.
    """
    if repeats < 1:
        raise ConfigError(f"latency needs at least one repeat, got {repeats}")
    times: dict[str, list[float]] = {name: [] for name in models}
    clocks = {name: synchronised(clock, str(classifier.device)) for name, classifier in models.items()}
    for classifier in models.values():
        classifier.model.eval()
    with torch.no_grad():
        for repeat in range(WARM_UP + repeats):
            if repeat >= WARM_UP + FEWEST and sum(itertools.chain(*times.values())) >= most_s:
                break
            for name, classifier in models.items():
                start = clocks[name]()
                forward_logits(classifier, batch)
                if repeat >= WARM_UP:
                    times[name].append(clocks[name]() - start)
    return {name: statistics.median(seconds) for name, seconds in times.items()}
