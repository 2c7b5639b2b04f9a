"""Figures of written answers."""

import sys
from pathlib import Path

import pytest

from fedcore.client.evaluation.written_answers import LONGEST, answer_figures, exact_match, samples_of
from fedcore.core.errors import ConfigError, DataError


def test_any_reference_may_be_met_in_any_case_and_spacing() -> None:
    assert exact_match(["Shoe ", "a  boat", "dog"], [["boot", "shoe"], ["A boat"], ["cat"]]) == pytest.approx(2 / 3)


def test_figures_of_right_answers_are_whole() -> None:
    figures = answer_figures(["ein gutes Ende", "привет мир"], [["ein gutes Ende"], ["x", "привет мир"]])
    assert figures == {"exact_match": 1.0, "chrf": pytest.approx(100.0), "rouge_l": pytest.approx(1.0)}


def test_rouge_is_the_mean_of_the_best_reference() -> None:
    figures = answer_figures(["the cat sat", "no"], [["dog", "the cat"], ["yes"]])
    assert figures["rouge_l"] == pytest.approx((2 * (2 / 3) / (2 / 3 + 1)) / 2) and figures["exact_match"] == 0.0


def test_a_figure_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_metric.py").write_text(
        "def share(answers, references):\n    return sum(a in r for a, r in zip(answers, references)) / len(answers)\n"
        "def broken(answers, references):\n    return 1 / 0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert answer_figures(["a", "b"], [["a"], ["c"]], metric="my_metric:share")["own"] == 0.5
    for metric, error, match in (
        ("my_metric", ConfigError, 'expected "module:function"'),
        ("my_metric:none", ConfigError, "is not found by the evaluator"),
        ("my_metric:broken", DataError, "fails: ZeroDivisionError: division by zero"),
    ):
        with pytest.raises(error, match=match):
            answer_figures(["a"], [["a"]], metric=metric)
    sys.modules.pop("my_metric")


def test_samples_are_few_short_and_without_control_characters() -> None:
    prompts = [f"{'x' * 400} {row}" for row in range(23)]
    samples = samples_of(prompts, ["one\ntwo\x1b[31m"] * 23, [["ref", "other"]] * 23)
    assert len(samples) == 5 and samples[0].answer == "one\\ntwo\\x1b[31m" and samples[0].reference == "ref"
    assert samples[1].prompt.endswith("x 4") and len(samples[1].prompt) == LONGEST + 3
