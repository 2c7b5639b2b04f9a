"""Generation: a causal language model writes the answer to a prompt or a chat, or goes on with a text.

A model's outputs are not its logits, of which there are as many as words for every token, but three numbers a row,
which the loss `next-token` reduces them to: the sum of -log p over the answered tokens, in nats, their number, and how
many of them the model put first. Perplexity is exp(sum / number) over all rows, so every token counts alike.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcore.core.data.dialogue import dialogue_of
from fedcore.core.data.figures import SHARE, Figure, Metrics
from fedcore.core.errors import DataError
from fedcore.core.tasks.task import Targets, Task

LARGEST_LOSS = 100.0  # nats; beyond, a perplexity is a number without a meaning


def _targets(column: Sequence[str], labels: Sequence[str]) -> Targets:
    """Return a zero a row, int64: the targets are tokens, which only a tokenizer knows. DataError for no answers."""
    for target in column:
        try:
            dialogue_of("[]", target)
        except (ValueError, LookupError, TypeError) as cause:
            raise DataError(f"not a row of prompt and answers: {cause}") from None
    return np.zeros(len(column), dtype=np.int64)


def measure(outputs: NDArray[np.float32], targets: Targets) -> Metrics:
    """Return perplexity and next-token accuracy of outputs (rows, 3) as the module's page has them."""
    sums = outputs.astype(np.float64).sum(axis=0)
    if not sums[1]:
        raise DataError("no token of these rows is answered; give at least one answer, or a text of two tokens")
    loss = float(sums[0] / sums[1])
    figures = {"perplexity": math.exp(min(loss, LARGEST_LOSS)), "token_accuracy": float(sums[2] / sums[1])}
    return Metrics(figures=figures, rows=len(targets))


def _config_keys(labels: Sequence[str]) -> dict[str, Any]:
    return {"use_cache": True}


GENERATION = Task(
    name="generation",
    figures=(
        Figure(name="perplexity", title="perplexity", higher_is_better=False, shown="always"),
        Figure(name="exact_match", title="exact match", unit=SHARE, shown="always", optional=True),
        Figure(name="token_accuracy", title="next token", unit=SHARE),
        Figure(name="chrf", title="chrF", shown="lines", digits=1, optional=True),
        Figure(name="rouge_l", title="ROUGE-L", shown="lines", optional=True),
        Figure(name="own", title="own metric", optional=True),
    ),
    labelled=False,
    targets=_targets,
    target_type=np.int64,
    outputs=lambda labels: 0,
    model_class="AutoModelForCausalLM",
    config_keys=_config_keys,
    measure=measure,
    loss="next-token",
    encoder="dialogues",
    forms=(("messages", ""), ("prompt", "response"), ("prompt", "completion"), ("text", "")),
)
