"""Rows of text as token ids, and batches of them as tensors, padded on the right to the longest row."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedcore.core.boundary import Boundary
from fedcore.core.errors import DataError, ModelError
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.tasks.task import Targets
from fedcore.nn.model.model_folder import load_tokenizer, read_config

Batch = dict[str, torch.Tensor]
WINDOW = 8  # batches that are sorted by length together


NO_TARGET = -100  # of a token that is not learnt: transformers' word


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a row of a task that writes asks: its first `tokens` ids, for people `prompt`; 0: nothing is asked."""

    tokens: int = 0
    prompt: str = ""
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedRows:
    """Tokenised rows. `token_ids[i]` has at least one id; `segment_ids` is empty for a model without segments.

    `labels` are the targets of the task, whatever it is: the word of transformers. Where every token has a target they
    are zeros, and `token_targets[i]` has as many as `token_ids[i]`, NO_TARGET for what is not learnt. `stops`: the ids
    that end an answer. `notes`: what was cut, for people.
    """

    token_ids: tuple[tuple[int, ...], ...]
    segment_ids: tuple[tuple[int, ...], ...]
    labels: Targets  # (rows,)
    pad_id: int
    token_targets: tuple[tuple[int, ...], ...] = ()
    questions: tuple[Question, ...] = ()
    stops: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.token_ids) != len(self.labels):
            raise DataError(f"expected one label per row, got {len(self.token_ids)} rows, {len(self.labels)} labels")
        if not self.token_ids:
            raise DataError("no row to train or evaluate on; give at least one")

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def lengths(self) -> list[int]:
        """Tokens of every row."""
        return [len(ids) for ids in self.token_ids]

    def select(self, indices: NDArray[np.integer[Any]]) -> "EncodedRows":
        """Return the rows at `indices`, in that order."""
        return EncodedRows(
            token_ids=tuple(self.token_ids[i] for i in indices),
            segment_ids=tuple(self.segment_ids[i] for i in indices) if self.segment_ids else (),
            labels=self.labels[indices],
            pad_id=self.pad_id,
            token_targets=tuple(self.token_targets[i] for i in indices) if self.token_targets else (),
            questions=tuple(self.questions[i] for i in indices) if self.questions else (),
            stops=self.stops,
        )


def encode_rows(
    tokenizer: Any, texts: Sequence[tuple[str, ...]], labels: Sequence[int] | Targets, max_length: int
) -> EncodedRows:
    """Tokenise rows of one text, or of two for pair tasks, cut to `max_length` tokens.

    `tokenizer` is a Hugging Face tokenizer. Raises DataError where rows have no text, differ in their number of
    texts, or there is no row.
    """
    widths = {len(row) for row in texts}
    if not widths or widths - {1, 2} or len(widths) > 1:
        raise DataError(f"expected rows of one text, or all of two, and at least one row; got widths {sorted(widths)}")
    columns = [list(column) for column in zip(*texts, strict=True)]
    encoded = tokenizer(*columns, truncation=True, max_length=max_length, padding=False)
    blank = _first_known(tokenizer, ("bos_token_id", "eos_token_id", "pad_token_id"))
    # a tokenizer without special tokens gives no id for an empty text
    token_ids = tuple(tuple(ids) or (blank,) for ids in encoded["input_ids"])
    segments = tuple(tuple(ids) or (0,) for ids in encoded.get("token_type_ids", ()))
    return EncodedRows(
        token_ids=token_ids,
        segment_ids=segments,
        labels=np.asarray(labels),
        pad_id=_first_known(tokenizer, ("pad_token_id", "eos_token_id")),
    )


def encode_for(
    folder: Path, texts: Sequence[tuple[str, ...]], labels: Sequence[int] | Targets, max_length: int
) -> EncodedRows:
    """Tokenise rows with the tokenizer of the model in `folder`, as `encode_rows`.

    Raises ModelError as well, where that gives ids which the model has no embedding for.
    """
    geometry = geometry_from_config(read_config(folder))
    tokenizer = load_tokenizer(folder)
    with Boundary(ModelError, f"{folder}: the tokenizer fails on the rows"):
        rows = encode_rows(tokenizer, texts, labels, max_length)
    largest = max(map(max, rows.token_ids))  # of the ids that occur: a tokenizer may know others
    if largest >= geometry.vocab:
        raise ModelError(
            f"{folder}: the tokenizer gives id {largest}, the model knows {geometry.vocab} ids; use the model's own "
            "tokenizer, or resize the model's embeddings and save it anew"
        )
    # A model with one token type does not distinguish the texts of a pair, whatever ids the tokenizer gives.
    return replace(rows, segment_ids=()) if geometry.token_types == 1 else rows


def collate(rows: EncodedRows, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
    """Return input_ids, attention_mask, labels (and token_type_ids) of the rows at `indices`.

    Each is int64, (batch, longest row), labels (batch,) of the type of the rows' targets, or a target a token.
    """
    chosen = [rows.token_ids[i] for i in indices]
    batch = {
        "input_ids": _padded(chosen, rows.pad_id),
        "attention_mask": _padded([(1,) * len(ids) for ids in chosen], 0),
        "labels": _padded([rows.token_targets[i] for i in indices], NO_TARGET)
        if rows.token_targets
        else torch.from_numpy(rows.labels[np.asarray(indices, dtype=np.int64)]),
    }
    if rows.segment_ids:
        batch["token_type_ids"] = _padded([rows.segment_ids[i] for i in indices], 0)
    return batch


def epoch_batches(
    rows: EncodedRows, batch_size: int, rng: np.random.Generator, draws: Sequence[int] | None = None
) -> Iterator[NDArray[np.int64]]:
    """Yield row indices for ever: every row once per epoch, each epoch in a new order.

    With `draws`, an epoch has `draws[y]` rows of label y instead (fedcore.core.data.label_prior), spread evenly over
    it; the rows of a label take turns, across epochs too. Rows are shuffled, then every window of 8 batches is sorted
    by length and its batches are shuffled: movie reviews then take 30 padded tokens a row instead of 48, and the
    composition of a batch stays random. One batch of an epoch may be smaller than `batch_size`; fewer rows than that
    make one batch.
    """
    tokens = np.asarray(rows.lengths)
    for order in _shuffled(len(rows), rng) if draws is None else _balanced(rows.labels, draws, rng):
        for low in range(0, len(order), WINDOW * batch_size):
            window = order[low : low + WINDOW * batch_size]
            window = window[np.argsort(tokens[window], kind="stable")]
            starts = np.arange(0, len(window), batch_size)
            for start in rng.permutation(starts):
                yield window[start : start + batch_size]


def _shuffled(num_rows: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    while True:
        yield rng.permutation(num_rows)


def _balanced(labels: Targets, draws: Sequence[int], rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    streams = [_row_stream(np.flatnonzero(labels == label), rng) for label in range(len(draws))]
    while True:
        chosen = [list(islice(stream, count)) for stream, count in zip(streams, draws, strict=True)]
        # stratified: every draw of a label has a stretch of the epoch, and a random place in it
        places = [(np.arange(count) + rng.random(count)) / max(1, count) for count in draws]
        order = np.argsort(np.concatenate(places), kind="stable")
        yield np.asarray([row for rows in chosen for row in rows], dtype=np.int64)[order]


def _row_stream(rows: NDArray[np.int64], rng: np.random.Generator) -> Iterator[int]:
    """Yield rows for ever, each once per pass in random order; nothing without rows."""
    while len(rows):
        yield from rng.permutation(rows).tolist()


def length_sorted_batches(rows: EncodedRows, batch_size: int) -> Iterator[NDArray[np.int64]]:
    """Yield every row index once, rows of similar length together, so that padding is short."""
    order = np.argsort(rows.lengths, kind="stable")
    for start in range(0, len(rows), batch_size):
        yield order[start : start + batch_size]


def probe_indices(num_rows: int, size: int) -> NDArray[np.int64]:
    """Return up to `size` row indices spread evenly over the rows: the same in every round."""
    return np.unique(np.linspace(0, num_rows - 1, min(size, num_rows)).round().astype(np.int64))


def _padded(sequences: Sequence[tuple[int, ...]], filler: int) -> torch.Tensor:
    longest = max(len(ids) for ids in sequences)
    return torch.tensor([[*ids, *(filler,) * (longest - len(ids))] for ids in sequences], dtype=torch.int64)


def _first_known(tokenizer: Any, names: Sequence[str]) -> int:
    """Return the first special id that the tokenizer has; 0 without any, which is masked wherever it pads."""
    ids = (getattr(tokenizer, name, None) for name in names)
    return next((int(token_id) for token_id in ids if token_id is not None), 0)
