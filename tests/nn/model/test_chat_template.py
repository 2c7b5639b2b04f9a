"""How chats become text."""

import json
from pathlib import Path

import pytest
from transformers import GenerationConfig

from fedcore.core.data.dialogue import Dialogue, Turn
from fedcore.core.errors import DataError, ModelError
from fedcore.nn.model.chat_template import CHATML, chat_form, stop_ids, write_generation_config
from tests.tiny_models import tiny_tokenizer

CHAT = Dialogue(turns=(Turn("user", "good film"), Turn("assistant", "very"), Turn("user", "bad")), answers=("plot",))


def test_a_template_parts_questions_from_answers() -> None:
    pieces = chat_form(tiny_tokenizer(bert=False), "chatml").pieces(CHAT)
    assert [answer for _, answer in pieces] == [False, True, False, True]
    assert "".join(text for text, _ in pieces).endswith("<|im_start|>assistant\nplot<|im_end|>\n")
    assert pieces[0][0] == "<|im_start|>user\ngood film<|im_end|>\n<|im_start|>assistant\n"
    assert pieces[1][0] == "very<|im_end|>\n"


def test_a_tokenizers_own_template_is_taken_unless_another_is_named() -> None:
    tokenizer = tiny_tokenizer(bert=False)
    assert chat_form(tokenizer, "auto").template == ""
    tokenizer.chat_template = "{{ messages[0]['content'] }}"
    assert chat_form(tokenizer, "auto").template == tokenizer.chat_template
    assert chat_form(tokenizer, "none").template == "" and chat_form(tokenizer, "chatml").template == CHATML


def test_plain_text_is_an_answer_and_a_prompt_ends_its_line() -> None:
    form = chat_form(tiny_tokenizer(bert=False), "none")
    assert form.pieces(Dialogue(text="a film")) == [("a film", True)]
    asked = Dialogue(turns=(Turn("user", "good"),), answers=("film", "plot"))
    assert form.pieces(asked) == [("good\n", False), ("film", True)]


def test_a_chat_without_a_template_is_refused_with_the_remedy() -> None:
    with pytest.raises(DataError, match=r"needs a chat template.*chatml"):
        chat_form(tiny_tokenizer(bert=False), "none").pieces(Dialogue(turns=CHAT.turns, answers=("a",), chat=True))


def test_a_template_that_fails_is_told(tmp_path: Path) -> None:
    file = tmp_path / "strict.jinja"
    file.write_text("{{ raise_exception('only one turn') }}")
    with pytest.raises(DataError, match=r"the chat template fails on turns of user.*only one turn"):
        chat_form(tiny_tokenizer(bert=False), str(file)).pieces(CHAT)


def test_a_template_that_writes_answers_otherwise_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "odd.jinja"
    file.write_text("{% for m in messages %}<{{ loop.length }}>{{ m['content'] }}{% endfor %}")
    with pytest.raises(DataError, match="writes the last answer otherwise"):
        chat_form(tiny_tokenizer(bert=False), str(file)).pieces(CHAT)


def test_a_template_that_is_none_is_refused() -> None:
    with pytest.raises(ModelError, match=r"task.template 'alpaca': expected auto, none, chatml or a Jinja file"):
        chat_form(tiny_tokenizer(bert=False), "alpaca")


def test_an_answer_ends_where_the_tokenizer_or_the_models_files_say(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(bert=False)
    assert stop_ids(tokenizer, tmp_path) == (3,)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn-end>"]})
    end = tokenizer.convert_tokens_to_ids("<turn-end>")
    (tmp_path / "config.json").write_text(json.dumps({"eos_token_id": 2}))  # the default of Llama's, and our beginning
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": [9, end, 3]}))
    assert stop_ids(tokenizer, tmp_path) == (3, end), "9 is a word"
    write_generation_config(tokenizer, tmp_path, tmp_path)
    written = GenerationConfig.from_pretrained(tmp_path)
    assert written.eos_token_id == [3, end] and not written.do_sample


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(bert=False)
    tokenizer.eos_token = None
    with pytest.raises(ModelError, match="no end-of-text token, so a model could not learn to stop"):
        stop_ids(tokenizer, tmp_path)
