from pathlib import Path

import numpy as np
import pytest

from benchmarks.criteria.__main__ import agreement_rows, rows
from benchmarks.criteria.correlation import Agreement, spearman
from benchmarks.criteria.curves import CASES, Plan, Point, mean_scores, scores_of
from benchmarks.criteria.figure import STYLES, draw_agreement, draw_curves
from benchmarks.criteria.setup import Setup, fork
from fedcore.core.contract.outcome import GroupScores
from fedcore.nn.criteria.compensation import compensate, input_means
from fedcore.nn.model.lora import read_adapter
from fedcore.nn.model.surgery import shrink
from tests.scored import adapted_classifier, labelled_batch
from tests.tiny_classifiers import learnable_rows
from tests.tiny_models import random_keep_set

PLAN = Plan(sparsities=(0.3, 0.5), recovered=(0.5,), recovery_steps=3)
POINTS = [
    Point(case=case, seed=seed, sparsity=sparsity, realised=sparsity, recovery_steps=steps, accuracy=value, loss=1.0)
    for case, value in (("dense", 0.75), ("flap", 0.5), ("random", 0.25))
    for seed in (0, 1)
    for sparsity, steps in ([(0.0, 0)] if case == "dense" else [(0.3, 0), (0.5, 0), (0.5, 3)])
]
FOUND = [
    Agreement(rank=rank, seed=0, steps=steps, signal=signal, heads=0.5, channels=0.25)
    for rank in (4, 8)
    for steps, signal in ((0, "same batches"), (5, "same batches"), (5, "training"))
]


def test_rank_correlation() -> None:
    ascending = np.array([1.0, 2.0, 3.0, 4.0])
    assert spearman(ascending, np.array([0.1, 5.0, 6.0, 70.0])) == pytest.approx(1.0)
    assert spearman(ascending, -ascending) == pytest.approx(-1.0)
    assert spearman(ascending, np.array([2.0, 1.0, 4.0, 3.0])) == pytest.approx(1 - 6 * 4 / (4 * 15))


def test_a_row_per_criterion_and_rank() -> None:
    flap, chance = rows(POINTS, PLAN)
    assert [flap[key] for key in ("criterion", "30%", "50%", "50% recovered")] == ["flap", 0.5, 0.5, 0.5]
    assert len(chance["points"]) == 6
    assert [len(row["agreement"]) for row in agreement_rows(FOUND)] == [3, 3]


def test_every_case_has_a_style_of_its_own() -> None:
    assert set(CASES) <= set(STYLES) and len(set(STYLES.values())) == len(STYLES)


def test_figures_are_written(tmp_path: Path) -> None:
    draw_curves(POINTS, tmp_path / "a" / "curves.png")
    draw_agreement(FOUND, tmp_path / "a" / "agreement.png")
    assert all(path.stat().st_size > 10_000 for path in (tmp_path / "a").iterdir())


def test_a_fork_leaves_the_original_alone_and_shares_what_nothing_changes() -> None:
    classifier = adapted_classifier("bert")
    before, bias = read_adapter(classifier), classifier.base_linear(0, "o").bias.detach().clone()
    other = fork(classifier)
    assert other.base_linear(0, "q").weight is classifier.base_linear(0, "q").weight
    half = random_keep_set(other.keep_set, heads=2, channels=24)
    compensate(other, half, input_means(other, [labelled_batch()]))
    shrink(other, half)
    for parameter in other.head_parameters().values():
        parameter.data.zero_()
    assert (classifier.base_linear(0, "o").bias == bias).all()
    assert all((value == before[name]).all() for name, value in read_adapter(classifier).items())


def test_scores_are_averaged_over_batches_and_leave_the_model_alone() -> None:
    one, other = (
        GroupScores(heads=(np.array([value], dtype=np.float32),), channels=(np.array([1.0], dtype=np.float32),))
        for value in (1.0, 3.0)
    )
    assert mean_scores([one, other]).heads[0].tolist() == [2.0]
    classifier, plan = adapted_classifier("bert"), Plan(gate_steps=2)
    rows = learnable_rows(20)
    setup = Setup(folder=classifier.folder, labels=classifier.labels, dtype="float32", train=rows, test=rows)
    for criterion in ("taylor", "lora-taylor", "flap", "l0"):
        scores = scores_of(criterion, setup, classifier, [labelled_batch(), labelled_batch()], plan, seed=0)
        assert len(scores.heads) == 2
    assert all(parameter.grad is None for parameter in classifier.model.parameters())
