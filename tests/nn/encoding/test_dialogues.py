"""Rows for models that write, as token ids."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from fedcore.core.data.dialogue import row_of
from fedcore.core.errors import DataError, ModelError
from fedcore.nn.encoding.dialogues import encode_dialogues
from fedcore.nn.training.batches import EncodedRows, collate
from tests.tiny_models import SPECIAL, WORDS, pad_beyond_vocabulary, tiny_model

BEGIN, END = SPECIAL.index("[CLS]"), SPECIAL.index("[SEP]")
IDS = {word: place + len(SPECIAL) for place, word in enumerate(WORDS)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("writer"), "llama", writes=True)


def ids(text: str) -> tuple[int, ...]:
    return tuple(IDS[word] for word in text.split())


def encoded(folder: Path, *rows: tuple[object, object], max_length: int = 32, template: str = "auto") -> EncodedRows:
    return encode_dialogues(folder, [row_of(*row) for row in rows], max_length=max_length, template=template)


def test_loss_is_on_the_answer_and_its_end_alone(folder: Path) -> None:
    rows = encoded(folder, ("the film was", "very good"))
    assert rows.token_ids == ((BEGIN, *ids("the film was very good"), END),)
    assert rows.token_targets == ((*[-100] * 4, *ids("very good"), END),)
    assert rows.questions[0].tokens == 4 and rows.questions[0].references == ("very good",)
    assert rows.stops == (END,) and rows.notes == () and rows.labels.tolist() == [0]


def test_plain_text_is_learnt_whole(folder: Path) -> None:
    rows = encoded(folder, ("the film was good", None))
    assert rows.token_targets == ((-100, *ids("the film was good"), END),)
    assert rows.questions[0].tokens == 0


def test_the_first_of_several_references_is_learnt(folder: Path) -> None:
    rows = encoded(folder, ("the film", ["good", "great"]))
    assert rows.token_targets[0][-2:] == (*ids("good"), END) and rows.questions[0].references == ("good", "great")


def test_every_answer_of_a_chat_is_learnt(folder: Path, tmp_path: Path) -> None:
    template = tmp_path / "words.jinja"
    template.write_text(
        "{% for m in messages %}{{ 'the ' if m['role'] == 'user' else 'a ' }}{{ m['content'] }} "
        "{{ eos_token + ' plot ' }}{% endfor %}{% if add_generation_prompt %}a {% endif %}"
    )
    chat = [
        {"role": role, "content": text}
        for role, text in (("user", "film"), ("assistant", "good"), ("user", "actor"), ("assistant", "dull"))
    ]
    rows = encoded(folder, (chat, None), template=str(template))
    learnt = [token for token in rows.token_targets[0] if token != -100]
    assert learnt == [*ids("good"), END, *ids("dull"), END]
    assert rows.token_ids[0][-1] == END, "what the template writes after the last end is left out"
    assert rows.questions[0].prompt == "actor" and rows.token_ids[0][: rows.questions[0].tokens][-1] == IDS["a"]


def test_a_long_question_loses_its_beginning(folder: Path) -> None:
    rows = encoded(folder, ("a a a a a a the film", "very good"), max_length=6)
    assert rows.token_ids == ((*ids("a the film very good"), END),) and rows.questions[0].tokens == 3
    assert rows.notes == (
        "1 row of 1 longer than model.max_length = 6 lose the beginning of the question, 6 tokens at most",
    )


def test_a_long_answer_loses_its_end_and_is_told(folder: Path) -> None:
    rows = encoded(folder, ("the film", "good " * 10), max_length=8)
    assert len(rows.token_ids[0]) == 8 and rows.questions[0].tokens == 2
    assert END not in rows.token_targets[0], "a model must not learn to stop where a row was cut"
    assert [note for note in rows.notes if "lose its end, 5 tokens at most; raise model.max_length" in note]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(asked=st.integers(1, 30), answer=st.integers(1, 30), max_length=st.integers(4, 24))
def test_rows_fit_and_always_have_an_answer(folder: Path, asked: int, answer: int, max_length: int) -> None:
    rows = encoded(folder, ("film " * asked, "good " * answer), max_length=max_length)
    (tokens,), (targets,) = rows.token_ids, rows.token_targets
    assert len(tokens) == len(targets) == min(max_length, asked + answer + 2)
    assert all(target in (-100, token) for token, target in zip(tokens, targets, strict=True))
    learnt = [target for target in targets if target != -100]
    assert len(learnt) >= min(answer, max_length * 3 // 4) and learnt[0] == IDS["good"]
    assert bool(rows.notes) == (asked + answer + 2 > max_length)


def test_a_batch_has_a_target_a_token(folder: Path) -> None:
    rows = encoded(folder, ("the film was", "good"), ("a plot", "dull"))
    batch = collate(rows, [1, 0])
    assert batch["labels"].shape == batch["input_ids"].shape and batch["labels"][0, -1] == -100
    kept = rows.select(rows.labels.nonzero()[0] if rows.labels.any() else rows.labels[1:] + 1)
    assert kept.token_targets == rows.token_targets[1:] and kept.questions == rows.questions[1:]


def test_a_failing_template_names_the_row(folder: Path, tmp_path: Path) -> None:
    template = tmp_path / "strict.jinja"
    template.write_text(
        "{% if messages[0]['content'] == 'plot' %}{{ raise_exception('no') }}{% endif %}"
        "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    )
    with pytest.raises(DataError, match="row 2: the chat template"):
        encoded(folder, ("film", "good"), ("plot", "good"), template=str(template))


def test_a_vocabulary_beyond_the_model_is_refused(tmp_path: Path) -> None:
    model = pad_beyond_vocabulary(tiny_model(tmp_path, "llama", writes=True))
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.add_tokens(["unheard"])
    tokenizer.save_pretrained(model)
    with pytest.raises(ModelError, match=r"the tokenizer gives id 65, the model knows 64 ids"):
        encoded(model, ("film", "unheard"))


def test_no_row_is_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="no row"):
        encoded(folder)
