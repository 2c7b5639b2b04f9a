"""Tokens a second of models that write one answer at a time, in turns in one process."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.model_folder import quiet

PROMPT, TOKENS, REPEATS = 16, 16, 6
ANY_TOKEN = 100  # time does not depend on which


def decode_speeds(
    models: Mapping[str, Classifier], *, repeats: int = REPEATS, clock: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Return the median tokens a second by model, after one generation each that does not count.

    Models take turns, the first of one round last in the next, and `clock` counts the seconds of this process: a busy
    machine slows all alike or not at all.
    """
    times: dict[str, list[float]] = {name: [] for name in models}
    for repeat in range(1 + repeats):
        for name, classifier in list(models.items())[:: 1 if repeat % 2 else -1]:
            begin = clock()
            _write(classifier)
            if repeat:
                times[name].append(clock() - begin)
    return {name: TOKENS / statistics.median(seconds) for name, seconds in times.items()}


def _write(classifier: Classifier) -> None:
    model: Any = classifier.model.eval()
    ids = torch.full((1, PROMPT), ANY_TOKEN)
    with torch.no_grad(), quiet():
        written = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=TOKENS,
            min_new_tokens=TOKENS,
            do_sample=False,
            use_cache=True,
            pad_token_id=0,
        )
    if written.shape[1] != PROMPT + TOKENS:
        raise RuntimeError(f"expected {TOKENS} new tokens, got {written.shape[1] - PROMPT}")
