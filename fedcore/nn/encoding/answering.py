"""Greedy answers of a language model to the questions of rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.model_folder import load_tokenizer, quiet
from fedcore.nn.training.batches import EncodedRows

BATCH = 16


def asked(rows: EncodedRows, count: int) -> NDArray[np.int64]:
    """Return the indices of up to `count` rows that ask something, spread evenly over all that do."""
    those: NDArray[np.int64] = np.array(
        [row for row, question in enumerate(rows.questions) if question.tokens], dtype=np.int64
    )
    if not len(those) or count < 1:
        return those[:0]
    places: NDArray[np.int64] = np.linspace(0, len(those) - 1, min(count, len(those))).round().astype(np.int64)
    return those[np.unique(places)]


def answers_to(classifier: Classifier, rows: EncodedRows, chosen: NDArray[np.int64], *, tokens: int) -> list[str]:
    """Return the answers of up to `tokens` tokens to the rows `chosen`, without special tokens and outer blanks."""
    tokenizer = load_tokenizer(classifier.folder)
    was_training = classifier.model.training
    classifier.model.eval()
    order = sorted(range(len(chosen)), key=lambda place: rows.questions[chosen[place]].tokens)
    written: dict[int, str] = {}
    for start in range(0, len(order), BATCH):
        places = order[start : start + BATCH]
        questions = [rows.token_ids[chosen[place]][: rows.questions[chosen[place]].tokens] for place in places]
        new = _generated(classifier, questions, rows, tokens)
        for place, ids in zip(places, new.tolist(), strict=True):
            written[place] = str(tokenizer.decode(_until(ids, rows.stops), skip_special_tokens=True)).strip()
    classifier.model.train(was_training)
    return [written[place] for place in range(len(chosen))]


def _generated(
    classifier: Classifier, questions: Sequence[tuple[int, ...]], rows: EncodedRows, tokens: int
) -> torch.Tensor:
    """Return the new ids (questions, at most `tokens`); questions are padded on the left, so that all end together."""
    longest = max(map(len, questions))
    ids = torch.tensor([[rows.pad_id] * (longest - len(question)) + list(question) for question in questions])
    mask = torch.tensor([[0] * (longest - len(question)) + [1] * len(question) for question in questions])
    model: Any = classifier.model
    with torch.no_grad(), quiet():
        written: torch.Tensor = model.generate(
            input_ids=ids.to(classifier.device),
            attention_mask=mask.to(classifier.device),
            max_new_tokens=tokens,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            eos_token_id=list(rows.stops),
            pad_token_id=rows.pad_id,
        )
    return written[:, longest:].cpu()


def _until(ids: Sequence[int], stops: Sequence[int]) -> list[int]:
    end = next((place for place, token in enumerate(ids) if token in stops), len(ids))
    return list(ids[:end])
