"""Rows for models that write as token ids, with a target for every token that is answered.

Questions and answers are tokenised apart, as a question stands alone when it is asked. An answer ends with an end
token: that of the template, or the tokenizer's where the template writes none; what the template puts after it is not
learnt.

A row that is too long loses the beginning of its question, up to three quarters of the row for the answer's sake; then
the end of its answer, with the end token, so that a model does not learn to stop there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from fedcore.core.boundary import Boundary
from fedcore.core.data.device_rows import counted
from fedcore.core.data.dialogue import Dialogue, dialogue_of
from fedcore.core.errors import DataError, ModelError
from fedcore.core.model.geometry import geometry_from_config
from fedcore.nn.model.chat_template import ChatForm, chat_form, stop_ids
from fedcore.nn.model.model_folder import load_tokenizer, read_config
from fedcore.nn.training.batches import NO_TARGET, EncodedRows, Question

QUESTION_SHARE = 4  # of a row that is too long, one part in so many is kept for the question

Ids = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Written:
    """One row: its ids, the target of every one, how many ids come before the last answer, what was cut."""

    ids: Ids
    targets: Ids
    asked: int
    question_cut: int = 0  # tokens
    answer_cut: int = 0


def encode_dialogues(folder: Path, rows: Sequence[tuple[str, str]], *, max_length: int, template: str) -> EncodedRows:
    """Tokenise rows, (text, target) as `fedcore.core.data.dialogue` has them, for the model in `folder`.

    Raises DataError for no row, and, naming the row (from 1), for one that the template fails on; ModelError for a
    tokenizer without an end token, or with ids that the model has no embedding for.
    """
    if not rows:
        raise DataError("no row to train or evaluate on; give at least one")
    tokenizer = load_tokenizer(folder)
    stops = stop_ids(tokenizer, folder)
    form = chat_form(tokenizer, template)
    dialogues = [dialogue_of(*row) for row in rows]
    with Boundary(ModelError, f"{folder}: the tokenizer fails on the rows"):
        written = list(_written(form, dialogues, stops, max_length))
    _check_vocabulary(folder, written)
    return EncodedRows(
        token_ids=tuple(row.ids for row in written),
        segment_ids=(),
        labels=np.zeros(len(rows), dtype=np.int64),
        pad_id=int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]),
        token_targets=tuple(row.targets for row in written),
        questions=tuple(_question(dialogue, row) for dialogue, row in zip(dialogues, written, strict=True)),
        stops=stops,
        notes=tuple(_notes(written, max_length)),
    )


def _written(form: ChatForm, dialogues: Sequence[Dialogue], stops: Ids, max_length: int) -> Iterator[_Written]:
    pieces = []
    for number, dialogue in enumerate(dialogues, start=1):
        try:
            pieces.append(form.pieces(dialogue))
        except DataError as cause:
            raise DataError(f"row {number}: {cause}") from None
    tokenizer = form.tokenizer
    texts = [text for row in pieces for text, _ in row]
    ids = iter(tokenizer(texts, add_special_tokens=False)["input_ids"])
    begin = _begin(tokenizer)
    for row, dialogue in zip(pieces, dialogues, strict=True):
        parts = [(tuple(part), answer) for part, (_, answer) in zip(islice(ids, len(row)), row, strict=True)]
        opening = () if form.template and dialogue.turns else begin  # a template writes its own beginning
        yield _cut(_ended([(opening, False), *parts], stops), max_length)


def _begin(tokenizer: Any) -> Ids:
    """Return the ids that the tokenizer begins a text with: nothing, or its token for that."""
    first = tokenizer("")["input_ids"]
    begin = tokenizer.bos_token_id
    return (int(begin),) if begin is not None and first[:1] == [begin] else ()


def _ended(parts: Sequence[tuple[Ids, bool]], stops: Ids) -> _Written:
    """Join the parts of a row; every answer has targets as far as its end token, and the last ends there."""
    ids: list[int] = []
    targets: list[int] = []
    asked = 0
    for place, (part, answer) in enumerate(parts):
        if not answer:
            ids += part
            targets += [NO_TARGET] * len(part)
            continue
        end = next((place + 1 for place, token in enumerate(part) if token in stops), None)
        learnt = part if end is None else part[:end]
        if end is None and place == len(parts) - 1:
            learnt = (*part, stops[0])
        asked = len(ids)
        rest = () if place == len(parts) - 1 else part[len(learnt) :]
        ids += [*learnt, *rest]
        targets += [*learnt, *[NO_TARGET] * len(rest)]
    return _Written(ids=tuple(ids), targets=tuple(targets), asked=asked)


def _cut(row: _Written, max_length: int) -> _Written:
    """Return a row of at most `max_length` tokens."""
    over = len(row.ids) - max_length
    if over <= 0:
        return row
    kept = max(max_length - (len(row.ids) - row.asked), min(row.asked, max_length // QUESTION_SHARE))
    first = row.asked - kept
    chosen = slice(first, first + max_length)
    return _Written(
        ids=row.ids[chosen],
        targets=row.targets[chosen],
        asked=kept,
        question_cut=first,
        answer_cut=over - first,
    )


def _question(dialogue: Dialogue, row: _Written) -> Question:
    if not dialogue.turns:
        return Question()
    return Question(tokens=row.asked, prompt=dialogue.turns[-1].content, references=dialogue.answers)


def _notes(rows: Sequence[_Written], max_length: int) -> Iterator[str]:
    questions = [row.question_cut for row in rows if row.question_cut]
    answers = [row.answer_cut for row in rows if row.answer_cut]
    if questions:
        yield (
            f"{counted(len(questions), 'row')} of {len(rows)} longer than model.max_length = {max_length} lose the "
            f"beginning of the question, {max(questions)} tokens at most"
        )
    if answers:
        yield (
            f"{counted(len(answers), 'row')} of {len(rows)} whose text or answer is too long for model.max_length = "
            f"{max_length} lose its end, {max(answers)} tokens at most; raise model.max_length to learn them whole"
        )


def _check_vocabulary(folder: Path, rows: Sequence[_Written]) -> None:
    largest, vocabulary = max(max(row.ids) for row in rows), geometry_from_config(read_config(folder)).vocab
    if largest >= vocabulary:
        raise ModelError(
            f"{folder}: the tokenizer gives id {largest}, the model knows {vocabulary} ids; use the model's own "
            "tokenizer, or resize the model's embeddings and save it anew"
        )
