"""Rows for models that write: a prompt with reference answers, a chat of turns, or plain text.

A row travels as every row does, a text and a target that is text. The text is the prompt, or a chat's turns before its
last answer as JSON, or the plain text. The target is the reference answers as a JSON list, in an object for a chat, or
empty for plain text. The first reference is the one that trains.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

USER, ASSISTANT = "user", "assistant"
_ROLES = {"human": USER, "gpt": ASSISTANT, "bot": ASSISTANT, "model": ASSISTANT}  # other words for the two
_ANSWERS = "answers"


class Turn(NamedTuple):
    """One turn of a chat."""

    role: str
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialogue:
    """One row. `turns` come before the answer: the prompt as a user's turn, or a chat's; empty for plain text.

    `answers`: the references, the one that trains first. `text`: of a plain text, which trains whole.
    """

    turns: tuple[Turn, ...] = ()
    answers: tuple[str, ...] = ()
    text: str = ""
    chat: bool = False  # whether the row is a chat, which has no form without a template


def row_of(text: Any, target: Any) -> tuple[str, str]:
    """Return the text and the target of a row out of its two cells; `target` is None where no column holds answers.

    Raises ValueError, saying what is wrong with the row and what to do.
    """
    messages = _messages(text)
    if messages is None:
        if text is None or not isinstance(text, str) or not text.strip():
            raise ValueError("the prompt is empty or no text; fill it or drop the row")
        return text, "" if target is None else json.dumps(_answers(target), ensure_ascii=False)
    turns = [_turn(message) for message in messages]
    if target is not None:
        return _chat(turns, _answers(target))
    last = max((place for place, turn in enumerate(turns) if turn.role == ASSISTANT), default=0)
    if last == 0:
        raise ValueError("the chat has no answer: no turn of the assistant after another turn; drop the row")
    if not turns[last].content.strip():
        raise ValueError("the last answer of the chat is empty; fill it or drop the row")
    return _chat(turns[:last], (turns[last].content,))


def dialogue_of(text: str, target: str) -> Dialogue:
    """Return a row as `row_of` wrote it; raises ValueError for a target that it did not write."""
    if not target:
        return Dialogue(text=text)
    read = json.loads(target)
    if isinstance(read, dict):
        turns = tuple(Turn(*turn) for turn in json.loads(text))
        return Dialogue(turns=turns, answers=tuple(read[_ANSWERS]), chat=True)
    if not isinstance(read, list) or not read:
        raise ValueError(f"expected reference answers as a JSON list, got {target!r}")
    return Dialogue(turns=(Turn(USER, text),), answers=tuple(read))


def _chat(turns: Sequence[Turn], answers: Sequence[str]) -> tuple[str, str]:
    return json.dumps(turns, ensure_ascii=False), json.dumps({_ANSWERS: list(answers)}, ensure_ascii=False)


def _messages(cell: Any) -> list[Any] | None:
    """Return the messages of a cell, also where a file without types spells them as JSON; None for any other cell."""
    if isinstance(cell, str) and cell.lstrip().startswith("[{"):
        try:
            cell = json.loads(cell)
        except ValueError:
            return None
    listed = isinstance(cell, list | tuple) and len(cell) > 0
    return list(cell) if listed and all(isinstance(message, Mapping) for message in cell) else None


def _turn(message: Mapping[str, Any]) -> Turn:
    role, content = message.get("role", message.get("from")), message.get("content", message.get("value"))
    if isinstance(content, list):  # parts, as of models that see: their texts are what is read here
        content = "".join(str(part.get("text", "")) for part in content if isinstance(part, Mapping))
    if not isinstance(role, str) or not isinstance(content, str):
        raise ValueError('a message of the chat is not {"role": "...", "content": "..."} with texts; mend it')
    return Turn(_ROLES.get(role, role), content)


def _answers(cell: Any) -> list[str]:
    """Return the reference answers of a cell: a text, a number, or a list of them."""
    several = list(cell) if isinstance(cell, list | tuple) else [cell]
    told = [str(answer) for answer in several if isinstance(answer, str | int | float) and answer == answer]
    kept = [answer for answer in told if answer.strip()]
    if not kept or len(told) != len(several):
        raise ValueError("the answer is empty or no text; fill it or drop the row")
    return kept
