"""Figures of written answers against reference answers, and samples for people to read.

Exact match compares texts without regard to case and outer or repeated blanks; a row counts where any reference fits.
chrF is that of a corpus (Popovic, 2015; sacrebleu), 0 to 100, against every reference. ROUGE-L is the mean over rows of
the best F1 over the references (Lin, 2004; rouge-score), in [0, 1], on words as they stand: its own tokeniser knows
letters and digits of English alone.
"""

import importlib
import math
from collections.abc import Sequence

from fedcore.core.boundary import reason
from fedcore.core.data.figures import Sample
from fedcore.core.errors import ConfigError, DataError

References = Sequence[Sequence[str]]  # of every row, one or more
SAMPLES = 5
LONGEST = 240  # characters of a sample's text


class _Words:
    """Words as blanks part them, without case, for every script."""

    def tokenize(self, text: str) -> list[str]:
        return text.casefold().split()


def answer_figures(answers: Sequence[str], references: References, *, metric: str = "") -> dict[str, float]:
    """Return exact match, chrF, ROUGE-L, and the user's own figure under a `metric` ("module:function").

    chrF and ROUGE-L are left out where their libraries, of the extras client and rouge, are not installed;
    `fedcore.client.evaluation.answer_libraries` says so.

    Raises ConfigError where the metric cannot be found, DataError where it fails.
    """
    figures = {
        "exact_match": exact_match(answers, references),
        **_chrf(answers, references),
        **_rouge(answers, references),
    }
    return figures if not metric else {**figures, "own": _own(metric, answers, references)}


def exact_match(answers: Sequence[str], references: References) -> float:
    """Return the share of answers that are one of their references."""
    right = exact_matches(answers, references)
    return sum(right) / len(right)


def exact_matches(answers: Sequence[str], references: References) -> list[bool]:
    """Return of every answer whether it is one of its references."""
    return [
        _plain(answer) in {_plain(reference) for reference in told}
        for answer, told in zip(answers, references, strict=True)
    ]


def samples_of(prompts: Sequence[str], answers: Sequence[str], references: References) -> tuple[Sample, ...]:
    """Return up to SAMPLES rows spread evenly, bounded and with control characters escaped; of a prompt its end."""
    step = max(1, len(answers) // SAMPLES)
    return tuple(
        Sample(prompt=_shown(prompts[row], end=True), reference=_shown(references[row][0]), answer=_shown(answers[row]))
        for row in range(0, len(answers), step)[:SAMPLES]
    )


def _chrf(answers: Sequence[str], references: References) -> dict[str, float]:
    try:
        from sacrebleu.metrics.chrf import CHRF  # imported here: it takes a second, and other tasks do not need it
    except ImportError:  # of an environment older than these figures: the others are worth having
        return {}
    most = max(map(len, references))
    streams = [[told[min(place, len(told) - 1)] for told in references] for place in range(most)]
    return {"chrf": float(CHRF().corpus_score(list(answers), streams).score)}


def _rouge(answers: Sequence[str], references: References) -> dict[str, float]:
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError:  # without the extra `rouge`
        return {}
    scorer = RougeScorer(["rougeL"], tokenizer=_Words())
    rouge = [
        scorer.score_multi(list(told), answer)["rougeL"].fmeasure
        for answer, told in zip(answers, references, strict=True)
    ]
    return {"rouge_l": sum(rouge) / len(rouge)}


def _own(metric: str, answers: Sequence[str], references: References) -> float:
    module, colon, name = metric.partition(":")
    if not colon or not module or not name:
        raise ConfigError(f'task.metric {metric!r}: expected "module:function", such as "my_metrics:score"')
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as cause:
        raise ConfigError(
            f"task.metric {metric!r} is not found by the evaluator: {cause}; is it on PYTHONPATH?"
        ) from None
    try:
        value = float(function(list(answers), [list(told) for told in references]))
    except Exception as cause:  # a stranger's code
        raise DataError(f"task.metric {metric!r} fails: {reason(cause)}") from None
    if not math.isfinite(value):
        raise DataError(f"task.metric {metric!r} gives {value}, expected a finite number")
    return value


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


def _shown(text: str, *, end: bool = False) -> str:
    """Return a text in one line of bounded length: control characters escaped, dots where it is cut."""
    cut = text if len(text) <= LONGEST else f"...{text[-LONGEST:]}" if end else f"{text[:LONGEST]}..."
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in cut)
