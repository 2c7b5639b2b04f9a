"""Prompts, chats and texts out of a program's memory: every shape gives the rows that a file would hold."""

from typing import Any

import datasets
import numpy as np
import pandas
import pytest

from fedcore.client.data.in_memory.dialogues import listed, written_in_memory
from fedcore.core.errors import DataError
from fedcore.core.tasks.generation import GENERATION

ASKED, TOLD = ["2 + 2", "3 + 3"], ["4", "6"]
DICTS = [{"prompt": asked, "response": told, "lang": "en"} for asked, told in zip(ASKED, TOLD, strict=True)]
CHATS = [
    [{"role": "user", "content": asked}, {"role": "assistant", "content": told}]
    for asked, told in zip(ASKED, TOLD, strict=True)
]
BY_KEY = [{key: [turn[key] for turn in chat] for key in ("role", "content")} for chat in CHATS]
PAIRS = {
    "a list of dicts": DICTS,
    "an iterator of dicts": iter(DICTS),
    "a dict of columns": {"prompt": ASKED, "response": np.array(TOLD)},
    "a data set": datasets.Dataset.from_list(DICTS),
    "a streamed data set": datasets.Dataset.from_list(DICTS).to_iterable_dataset(),
    "a frame": pandas.DataFrame(DICTS),
}
TALKS = {
    "a list of chats": CHATS,
    "a list of dicts": [{"messages": chat} for chat in CHATS],
    "a data set": datasets.Dataset.from_list([{"messages": chat} for chat in CHATS]),
    "a frame of arrays": pandas.DataFrame({"messages": [np.array(chat, dtype=object) for chat in CHATS]}),
    "one list a key": {"messages": BY_KEY},
}


def rows(table: Any, *, certain: bool = False, named: tuple[str, str] | None = None, by: str = "") -> Any:
    return written_in_memory(listed(table), GENERATION, named=named, by=by, source="train", certain=certain)


@pytest.mark.parametrize("table", PAIRS.values(), ids=PAIRS)
def test_prompts_and_answers_of_every_shape(table: Any) -> None:
    assert rows(table) == [{"prompt": a, "response": b} for a, b in zip(ASKED, TOLD, strict=True)]


@pytest.mark.parametrize("table", TALKS.values(), ids=TALKS)
def test_chats_of_every_shape(table: Any) -> None:
    assert rows(table) == [{"messages": chat} for chat in CHATS]


def test_texts_and_pairs_of_sequences_are_read_where_the_task_is_certain() -> None:
    assert rows(ASKED, certain=True) == [{"text": text} for text in ASKED]
    assert rows((ASKED, TOLD), certain=True)[1] == {"prompt": "3 + 3", "response": "6"}
    assert rows(ASKED) is None and rows((ASKED, TOLD)) is None and rows([{"text": "a"}]) is None


def test_rows_with_a_text_and_a_label_are_a_classifiers_unless_the_task_is_certain() -> None:
    both = [{"text": "a", "label": 1, "prompt": "b", "response": ["c", "d"]}]
    assert rows(both) is None
    assert rows(both, certain=True) == [{"prompt": "b", "response": ["c", "d"]}]
    assert rows(both, certain=True, named=("text", "label"), by="prompt") == [{"text": "a", "label": 1, "prompt": "b"}]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([{"question": "a"}], "train: no columns of task generation found; expected one of: messages, prompt and"),
        ([{"prompt": "a", "response": "b"}, {"prompt": "a"}], "train: row 2: no column 'response'"),
        ([{"prompt": "a", "response": b"b"}], "train: row 1: column 'response' holds bytes, expected texts"),
        ({"prompt": [], "response": []}, "train: no row"),
    ],
)
def test_what_is_wrong_is_named(table: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"^{message}"):
        rows(table, certain=True)


def test_missing_values_are_empty_cells() -> None:
    table = pandas.DataFrame({"prompt": ["a", "b"], "response": ["c", None]})
    assert rows(table)[1] == {"prompt": "b", "response": None}
