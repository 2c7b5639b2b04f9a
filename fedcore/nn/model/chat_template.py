"""How a chat becomes text for one model: by the tokenizer's template, a named one, a file, or as plain text."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from fedcore.core.boundary import is_fault, reason
from fedcore.core.data.dialogue import ASSISTANT, Dialogue, Turn
from fedcore.core.errors import DataError, ModelError

AUTO, NONE = "auto", "none"
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NAMED = {"chatml": CHATML}

Piece = tuple[str, bool]  # text, and whether it is an answer


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatForm:
    """The form of chats: `template` is Jinja, empty for plain text."""

    tokenizer: Any
    template: str

    def pieces(self, dialogue: Dialogue) -> list[Piece]:
        """Return a dialogue as pieces of text, questions and answers in turn; plain text is one answer.

        Raises DataError for a chat without a template, and where the template fails or does not hold the answer.
        """
        if not dialogue.turns:
            return [(dialogue.text, True)]
        if self.template:
            return self._by_template(dialogue)
        if dialogue.chat:
            raise DataError(
                "a chat needs a chat template, and the tokenizer has none; set task.template, for example to "
                '"chatml", or give prompt and response in two columns'
            )
        prompt = dialogue.turns[0].content
        return [(prompt if prompt[-1:].isspace() else f"{prompt}\n", False), (dialogue.answers[0], True)]

    def _by_template(self, dialogue: Dialogue) -> list[Piece]:
        turns = (*dialogue.turns, Turn(ASSISTANT, dialogue.answers[0]))
        whole = self._rendered(turns)
        pieces: list[Piece] = []
        end = 0
        for place, turn in enumerate(turns):
            if turn.role != ASSISTANT:
                continue
            before, after = self._rendered(turns[:place], asks=True), self._rendered(turns[: place + 1])
            if not (whole.startswith(before) and whole.startswith(after) and end <= len(before) < len(after)):
                if place < len(turns) - 1:
                    continue  # a template that tells earlier answers otherwise: the last one alone is learnt
                raise DataError("the chat template writes the last answer otherwise than it asks for it; name another")
            pieces += [(whole[end : len(before)], False), (whole[len(before) : len(after)], True)]
            end = len(after)
        return pieces

    def _rendered(self, turns: Sequence[Turn], *, asks: bool = False) -> str:
        messages = [turn._asdict() for turn in turns]
        try:
            text = self.tokenizer.apply_chat_template(
                messages, chat_template=self.template, tokenize=False, add_generation_prompt=asks
            )
        except BaseException as cause:  # Jinja's own errors, and whatever a template raises
            if not is_fault(cause):
                raise
            roles = ", ".join(turn.role for turn in turns)
            raise DataError(f"the chat template fails on turns of {roles}: {reason(cause)}") from None
        return str(text)


def chat_form(tokenizer: Any, template: str) -> ChatForm:
    """Return the form that `template` names; raises ModelError for a name that is none and no file."""
    own = getattr(tokenizer, "chat_template", None)
    if isinstance(own, dict):  # several by name, as some tokenizers have
        own = own.get("default", next(iter(own.values())))
    if template in (AUTO, NONE):
        return ChatForm(tokenizer=tokenizer, template=(own or "") if template == AUTO else "")
    if template in NAMED:
        return ChatForm(tokenizer=tokenizer, template=NAMED[template])
    try:
        return ChatForm(tokenizer=tokenizer, template=Path(template).read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise ModelError(
            f"task.template {template!r}: expected auto, none, {', '.join(NAMED)} or a Jinja file; {cause}"
        ) from None


def stop_ids(tokenizer: Any, folder: Path) -> tuple[int, ...]:
    """Return the ids that end an answer: the tokenizer's, first, and those that the model's own files name.

    Of these, special tokens alone, and none with another part: a config may have the ids of its family's first model.
    Raises ModelError for a tokenizer without an end.
    """
    if tokenizer.eos_token_id is None:
        raise ModelError(
            f"{folder}: the tokenizer has no end-of-text token, so a model could not learn to stop; set its eos_token "
            "and save it"
        )
    found = [int(tokenizer.eos_token_id)]
    for name in ("generation_config.json", "config.json"):
        try:
            named = json.loads((folder / name).read_bytes()).get("eos_token_id")
        except (OSError, ValueError, AttributeError):
            continue
        found += [each for each in (named if isinstance(named, list) else [named]) if _ends(tokenizer, each)]
    return tuple(dict.fromkeys(found))


def _ends(tokenizer: Any, token_id: Any) -> bool:
    others = (tokenizer.bos_token_id, tokenizer.unk_token_id, getattr(tokenizer, "cls_token_id", None))
    known = tokenizer.added_tokens_decoder.get(token_id)
    return known is not None and bool(known.special) and token_id not in others


def write_generation_config(tokenizer: Any, source: Path, folder: Path) -> None:
    """Write generation_config.json: which ids end an answer, and what batches are padded with. Answers are greedy."""
    stops = stop_ids(tokenizer, source)
    config: Any = GenerationConfig
    config(
        eos_token_id=list(stops) if len(stops) > 1 else stops[0],
        bos_token_id=tokenizer.bos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(folder)
