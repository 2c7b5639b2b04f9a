"""What a summary says of floors: their figures, and warnings where a delivered model does not beat them."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedcore.core.contract.protocols import Json
from fedcore.core.data.figures import Figure
from fedcore.core.data.floors import WORDS, Comparison, Result, doubts


def floor_figures(floors: Json | None, untrained: Json | None) -> Json:
    """Return the floors of a summary; None for each one that nobody found.

    `floors` is what the ledger keeps of an evaluator's floors, `untrained` the metrics of the untrained adapter.
    """
    figures: dict[str, Any] = {"majority": None, "untrained": untrained, "tfidf": None}
    if floors is not None:
        figures["majority"] = {"label": floors["majority_label"], **floors["majority"]}
    if floors is not None and floors["tfidf"] is not None:
        figures["tfidf"] = {
            **floors["tfidf"],
            "trained_on": floors["tfidf_rows"],
            "cross_validated": floors["cross_validated"],
        }
    return figures


def floor_values(figures: Json, headline: Figure) -> dict[str, float]:
    """Return the headline figures of a summary's floors by their words, those that were found."""
    words = {"untrained": "the untrained model", "tfidf": WORDS}
    if figures["majority"] is not None:
        words = {"majority": f"always answering {figures['majority']['label']!r}", **words}
    found = {text: figures[name].get(headline.name) for name, text in words.items() if figures[name] is not None}
    return {text: value for text, value in found.items() if value is not None}


def floor_warnings(
    figures: Json, classes: Mapping[str, Json], final: Json | None, *, labels: Sequence[str], headline: Figure
) -> list[str]:
    """Return warnings for the classes' models, or, where none was measured, for the dense one."""
    results = [
        _result(f"{name} ({figured['realised_sparsity']:.0%} pruned)", figured["test"], labels, headline, figured)
        for name, figured in classes.items()
        if figured["test"] is not None
    ]
    if not results and final is not None:
        results = [_result("the global adapter", final, labels, headline, {})]
    dense = None if final is None else final[headline.name]
    measured = [result for result in results if result is not None]
    return list(doubts(measured, Comparison(figure=headline, floors=floor_values(figures, headline), dense=dense)))


def _result(name: str, metrics: Json, labels: Sequence[str], headline: Figure, figured: Json) -> Result | None:
    """Return a model's result; None where its headline figure is not defined on the rows."""
    if metrics[headline.name] is None:
        return None
    answers = metrics.get("answers") or ()
    top = max(range(len(answers)), key=lambda label: answers[label], default=None)
    known = top is not None and top < len(labels) and sum(answers) > 0
    return Result(
        name=name,
        value=metrics[headline.name],
        rows=metrics["rows"],
        top_answer=labels[top] if known and top is not None else "",
        top_share=answers[top] / sum(answers) if known and top is not None else 0.0,
        pruned=bool(figured.get("realised_sparsity")),
    )
