import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.errors import DataError, ModelError
from fedcore.nn.training.batches import (
    EncodedRows,
    collate,
    encode_for,
    encode_rows,
    epoch_batches,
    length_sorted_batches,
    probe_indices,
)
from tests.tiny_models import WORDS, tiny_model


class WordTokenizer:
    """One id per word (its length); pairs are joined; no markers, as Llama tokenizers without BOS."""

    bos_token_id = None
    eos_token_id = 99
    pad_token_id = None

    def __init__(self, segments: bool = False) -> None:
        self.segments = segments

    def __call__(self, first: list[str], second: list[str] | None = None, **options: Any) -> dict[str, Any]:
        assert options["truncation"] and not options["padding"]
        left = [[len(word) for word in text.split()] for text in first]
        right = [[len(word) for word in text.split()] for text in second or [""] * len(first)]
        limit = options["max_length"]
        encoded = {"input_ids": [(a + b)[:limit] for a, b in zip(left, right, strict=True)]}
        if self.segments:
            pairs = zip(left, right, strict=True)
            encoded["token_type_ids"] = [([0] * len(a) + [1] * len(b))[:limit] for a, b in pairs]
        return encoded


def rows_of_lengths(*lengths: int) -> EncodedRows:
    return EncodedRows(
        token_ids=tuple((7,) * length for length in lengths),
        segment_ids=(),
        labels=np.arange(len(lengths)),
        pad_id=0,
    )


def test_rows_are_cut_and_padded_on_the_right() -> None:
    rows = encode_rows(WordTokenizer(), [("a bb ccc dddd",), ("a",)], [1, 0], 3)
    batch = collate(rows, [0, 1])
    assert batch["input_ids"].tolist() == [[1, 2, 3], [1, 99, 99]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [1, 0]
    assert "token_type_ids" not in batch
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_pairs_carry_segments() -> None:
    rows = encode_rows(WordTokenizer(segments=True), [("a bb", "ccc"), ("a", "b")], [0, 0], 8)
    assert collate(rows, [0, 1])["token_type_ids"].tolist() == [[0, 0, 1], [0, 1, 0]]


def test_an_empty_text_still_has_one_token() -> None:
    rows = encode_rows(WordTokenizer(), [("",)], [0], 8)
    assert rows.token_ids == ((99,),)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("bert", {"vocab_size": 6}, r"gives id \d+, the model knows 6 ids; use the model's own tokenizer"),
        ("llama", {"vocab_size": 6}, r"gives id \d+, the model knows 6 ids"),
    ],
)
def test_ids_that_the_model_has_no_embedding_for_are_refused(
    kind: str, changes: dict[str, int], message: str, tmp_path: Path
) -> None:
    folder = tiny_model(tmp_path / "model", kind)
    texts = [tuple(" ".join(WORDS[:3]) for _ in range(2))]
    assert len(encode_for(folder, texts, [0], 16)) == 1
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))
    with pytest.raises(ModelError, match=message):
        encode_for(folder, texts, [0], 16)


def test_a_model_of_one_token_type_is_told_of_none(tmp_path: Path) -> None:
    texts, told = [(WORDS[0], WORDS[1])], {}
    for kind in ("bert", "roberta"):
        folder = tiny_model(tmp_path / kind, kind)
        names = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
        config = folder / "tokenizer_config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | names))
        told[kind] = encode_for(folder, texts, [0], 16).segment_ids
    assert told == {"bert": ((0, 0, 0, 1, 1),), "roberta": ()}


def test_batch_is_as_long_as_its_longest_row() -> None:
    assert collate(rows_of_lengths(2, 9, 4), [0, 2])["input_ids"].shape == (2, 4)


@pytest.mark.parametrize("texts", [[], [("a", "b", "c")], [("a",), ("a", "b")], [()]])
def test_odd_rows_are_refused(texts: list[tuple[str, ...]]) -> None:
    with pytest.raises(DataError, match="one text"):
        encode_rows(WordTokenizer(), texts, [0] * len(texts), 8)


def test_a_missing_label_is_refused() -> None:
    with pytest.raises(DataError, match="one label per row"):
        encode_rows(WordTokenizer(), [("a",), ("b",)], [0], 8)


@settings(max_examples=40, deadline=None)
@given(num_rows=st.integers(1, 40), batch_size=st.integers(1, 16), seed=st.integers(0, 9))
def test_every_epoch_holds_every_row_once(num_rows: int, batch_size: int, seed: int) -> None:
    lengths = np.random.default_rng(seed + 1).integers(1, 9, num_rows).tolist()
    batches = epoch_batches(rows_of_lengths(*lengths), batch_size, np.random.default_rng(seed))
    per_epoch = -(-num_rows // batch_size)
    for _ in range(2):
        epoch = list(itertools.islice(batches, per_epoch))
        assert sorted(np.concatenate(epoch).tolist()) == list(range(num_rows))
        assert all(1 <= len(batch) <= batch_size for batch in epoch)


@settings(max_examples=40, deadline=None)
@given(
    held=st.lists(st.integers(0, 20), min_size=2, max_size=4).filter(any), batch_size=st.integers(1, 8), data=st.data()
)
def test_draws_say_how_many_rows_of_each_label_an_epoch_has(
    held: list[int], batch_size: int, data: st.DataObject
) -> None:
    labels = np.repeat(np.arange(len(held)), held)
    rows = dataclasses.replace(rows_of_lengths(*[3] * len(labels)), labels=labels)
    draws = [data.draw(st.integers(1, 30)) if count else 0 for count in held]
    batches = epoch_batches(rows, batch_size, np.random.default_rng(0), draws)
    seen = np.zeros(len(labels), dtype=np.int64)
    for _ in range(3):
        epoch = np.concatenate(list(itertools.islice(batches, -(-sum(draws) // batch_size))))
        assert np.bincount(labels[epoch], minlength=len(held)).tolist() == draws
        np.add.at(seen, epoch, 1)
    for label in range(len(held)):  # a label's rows take turns
        assert not held[label] or np.ptp(seen[labels == label]) <= 1


def test_a_label_s_draws_are_spread_over_the_epoch() -> None:
    rows = dataclasses.replace(rows_of_lengths(*[3] * 128), labels=np.repeat([0, 1], [120, 8]))
    batches = epoch_batches(rows, 8, np.random.default_rng(0), (64, 64))
    halves = [np.concatenate(list(itertools.islice(batches, 8))) for _ in range(2)]
    assert all(abs(int(rows.labels[half].sum()) - 32) <= 2 for half in halves)


def test_batches_repeat_for_a_seed_and_differ_between_seeds() -> None:
    def draw(seed: int) -> list[list[int]]:
        batches = epoch_batches(rows_of_lengths(*[3, 5] * 10), 8, np.random.default_rng(seed))
        return [batch.tolist() for batch in itertools.islice(batches, 5)]

    assert draw(1) == draw(1)
    assert draw(1) != draw(2)


def test_rows_of_like_length_share_a_batch() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 128).tolist()
    batches = list(itertools.islice(epoch_batches(rows_of_lengths(*lengths), 16, np.random.default_rng(1)), 8))
    padded = sum(16 * max(lengths[row] for row in batch) for batch in batches)
    assert padded < 1.2 * sum(lengths)
    longest = [max(lengths[row] for row in batch) for batch in batches]
    assert longest != sorted(longest)


def test_one_row_fills_every_batch() -> None:
    batches = epoch_batches(rows_of_lengths(4), 16, np.random.default_rng(0))
    assert [batch.tolist() for batch in itertools.islice(batches, 3)] == [[0], [0], [0]]


@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=20), batch_size=st.integers(1, 7))
def test_evaluation_batches_cover_every_row_in_order_of_length(lengths: list[int], batch_size: int) -> None:
    order = np.concatenate(list(length_sorted_batches(rows_of_lengths(*lengths), batch_size)))
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert [lengths[i] for i in order] == sorted(lengths)


def test_probe_rows_are_spread_over_all_rows() -> None:
    assert probe_indices(100, 3).tolist() == [0, 50, 99]
    assert probe_indices(2, 16).tolist() == [0, 1]
    assert probe_indices(1, 16).tolist() == [0]
