"""Rows for models that write."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.data.dialogue import Dialogue, Turn, dialogue_of, row_of

WORDS = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1).filter(str.strip)


def refused(text: object, target: object, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        row_of(text, target)


@given(prompt=WORDS.filter(lambda text: not text.lstrip().startswith("[{")), answers=st.lists(WORDS, min_size=1))
def test_a_prompt_and_its_answers_come_back_as_they_were(prompt: str, answers: list[str]) -> None:
    read = dialogue_of(*row_of(prompt, answers))
    assert read == Dialogue(turns=(Turn("user", prompt),), answers=tuple(answers))


@given(WORDS.filter(lambda text: not text.lstrip().startswith("[{")))
def test_plain_text_has_neither_turns_nor_answers(text: str) -> None:
    assert dialogue_of(*row_of(text, None)) == Dialogue(text=text)


@pytest.mark.parametrize("spelt", [False, True])
def test_a_chat_ends_with_its_last_answer(spelt: bool) -> None:
    chat = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "2 + 2?"},
        {"role": "assistant", "content": "4"},
        {"from": "human", "value": "and 3?"},
        {"from": "gpt", "value": [{"type": "text", "text": "7"}]},
        {"role": "user", "content": "thanks"},
    ]
    read = dialogue_of(*row_of(json.dumps(chat) if spelt else chat, None))
    assert read.answers == ("7",) and read.chat
    assert [turn.role for turn in read.turns] == ["system", "user", "assistant", "user"]


def test_a_chat_may_have_its_answers_in_a_column() -> None:
    read = dialogue_of(*row_of([{"role": "user", "content": "2 + 2?"}], ["4", "four"]))
    assert read == Dialogue(turns=(Turn("user", "2 + 2?"),), answers=("4", "four"), chat=True)


def test_a_number_is_an_answer() -> None:
    assert dialogue_of(*row_of("2 + 2?", 4)).answers == ("4",)


def test_what_is_wrong_with_a_row_is_told() -> None:
    refused("", "yes", "the prompt is empty")
    refused(None, None, "the prompt is empty")
    refused("why?", " ", "the answer is empty")
    refused("why?", ["because", None], "the answer is empty or no text")
    refused("why?", float("nan"), "the answer is empty")
    refused([{"role": "user", "content": "hi"}], None, "the chat has no answer")
    refused([{"role": "assistant", "content": "hi"}], None, "the chat has no answer")
    refused([{"role": "user", "content": "hi"}, {"role": "assistant", "content": ""}], None, "last answer .* is empty")
    refused([{"role": "user"}], None, "a message of the chat is not")


def test_a_target_that_is_no_list_of_answers_is_refused() -> None:
    with pytest.raises(ValueError, match="expected reference answers"):
        dialogue_of("why?", "3")
