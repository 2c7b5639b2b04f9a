"""What is measured of a model: its answers to held-back questions, its English, its size and its speed."""

from dataclasses import dataclass, replace
from typing import Any

from benchmarks.pruned_lm import general
from benchmarks.pruned_lm.decoding import decode_speeds
from fedcore.client.data.rows import Rows
from fedcore.client.evaluation.written_answers import answer_figures
from fedcore.client.training.trainer import ModelSource
from fedcore.nn.encoding.answering import answers_to, asked
from fedcore.nn.encoding.dialogues import encode_dialogues
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import adapted, merge
from fedcore.nn.training.batches import NO_TARGET, EncodedRows
from fedcore.nn.training.evaluate import evaluate

BATCH, DIGITS = 16, 4
GENERAL_TOKENS = 96


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How many rows are measured: held-back questions, those of them that are answered, and general texts."""

    rows: int
    answered: int
    general: int


AMOUNTS: dict[int, Amount] = {  # by the steps of a cell
    600: Amount(rows=256, answered=128, general=200),
    64: Amount(rows=128, answered=64, general=96),
    8: Amount(rows=8, answered=4, general=4),
}


def examined(source: ModelSource, test: Rows, classifier: Classifier, amount: Amount) -> dict[str, Any]:
    """Return the figures of a model; adapters are merged at the end, for its speed beside the dense model's."""
    rows = source.encode(test.select(range(min(amount.rows, len(test)))))
    task = evaluate(classifier, rows, BATCH)
    chosen = asked(rows, amount.answered)
    answers = answers_to(classifier, rows, chosen, tokens=source.options.answer_tokens)
    written = answer_figures(answers, [rows.questions[row].references for row in chosen])
    english = evaluate(classifier, english_rows(source, amount.general), BATCH)
    dense = source.load()
    if next(adapted(classifier), None) is not None:
        merge(classifier)  # into float32
        classifier.model.to(next(dense.model.parameters()).dtype)
    speeds = decode_speeds({"dense": dense, "own": classifier})
    figures: dict[str, float | None] = {
        "perplexity": task.figures["perplexity"],
        "token_accuracy": task.figures["token_accuracy"],
        **{name: written[name] for name in ("exact_match", "chrf") if name in written},
        "general_perplexity": english.figures["perplexity"],
        "tokens_per_s": speeds["own"],
        "dense_tokens_per_s": speeds["dense"],
        "speedup": speeds["own"] / speeds["dense"],
    }
    return {
        **{name: None if value is None else round(float(value), DIGITS) for name, value in figures.items()},
        "rows": {"task": len(rows), "answered": len(chosen), "general": english.rows},
        "realised_sparsity": round(classifier.keep_set.sparsity(classifier.geometry), DIGITS),
        "kept": list(classifier.keep_set.counts),
        "parameters": classifier.count_parameters(),
        "dense_parameters": dense.count_parameters(),
    }


def english_rows(source: ModelSource, count: int) -> EncodedRows:
    """Return the first `count` held-out general texts, without the end token, which no passage has."""
    texts = general.held_out()[:count]
    rows = encode_dialogues(source.folder, [(text, "") for text in texts], max_length=GENERAL_TOKENS, template="none")
    targets = (
        (*own[:-1], NO_TARGET) if ids[-1] in rows.stops else own
        for ids, own in zip(rows.token_ids, rows.token_targets, strict=True)
    )
    return replace(rows, token_targets=tuple(targets))
