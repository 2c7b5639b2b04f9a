"""A stack at the engine: the files of a run that folded one by one, and refusals that name device and reason."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedcore.core.contract.outcome import GroupScores
from fedcore.core.contract.update_stack import UpdateStack
from fedcore.server.aggregate.engine import Engine
from fedcore.server.run.run_folder import RunFolder
from fedcore.transport.download import read_keep_set
from tests.server.aggregate.test_engine import DEVICES, PRUNING, Played, open_engine
from tests.server.conftest import TinyModel
from tests.tiny_run import device_report, score_vectors, small_update

DENSE = ["run.rounds=5", "training.codec=identity"]


def stack_of(played: Played, works: Any) -> tuple[UpdateStack, list[GroupScores | None]]:
    work = next(iter(works.values()))
    keep_set = read_keep_set(work, played.engine.blobs)
    updates = [small_update(played.model.geometry, works[each], keep_set, each) for each in works]
    stack = UpdateStack(
        round=work.round,
        devices=tuple(works),
        weights=tuple(each.weight for each in works.values()),
        rank=work.arm.rank,
        keep_set=keep_set,
        tensors={name: np.stack([each[name] for each in updates]) for name in updates[0]},
    )
    drawn = [score_vectors(keep_set, each) for each in works]
    layers = range(len(keep_set.heads))
    scores = [
        GroupScores(
            heads=tuple(each[f"layers.{layer}.heads"] for layer in layers),
            channels=tuple(each[f"layers.{layer}.channels"] for layer in layers),
        )
        for each in drawn
    ]
    return stack, [*scores]


def opened(place: Path, tiny: TinyModel, overrides: list[str], **options: Any) -> Played:
    place.mkdir(exist_ok=True)
    return open_engine(RunFolder(place), tiny, overrides, wall=lambda: 1.0, clock=lambda: 0.0, **options)


def shut(engine: Engine) -> None:
    engine.log.close()
    engine.ledger.close()


@pytest.mark.parametrize("aggregator", ["factor-mean", "delta-stack"])
def test_a_stack_leaves_what_updates_one_by_one_leave(aggregator: str, tiny: TinyModel, tmp_path: Path) -> None:
    overrides = [*PRUNING, f"strategy.aggregator={aggregator}", "training.codec=identity"]
    plain, stacked = (opened(tmp_path / name, tiny, overrides) for name in ("plain", "stacked"))
    works, same = plain.begin(), stacked.begin()
    for number in (1, 2, 3, 4):
        plain.count(works)
        stack, scores = stack_of(stacked, same)
        assert stacked.sum.fold_stack(stack, [device_report()] * 2, scores) == ()
        works, same = plain.close(number), stacked.close(number)
        assert works == same
    for name, value in plain.engine.model.tensors.items():
        np.testing.assert_array_equal(value, stacked.engine.model.tensors[name])
    shut(plain.engine)
    shut(stacked.engine)
    for path in ("events", "rounds"):
        assert getattr(plain.folder, path).read_bytes() == getattr(stacked.folder, path).read_bytes()


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "nan": ({"value": np.nan}, "holds NaN or infinity; lower the learning rate"),
    "other round": ({"round": 7}, "no open assignment asks for it"),
    "other weight": ({"weights": (3, 4)}, "expected weight, rank and counts"),
    "bad report": ({"report": device_report(loss_after=float("nan"))}, "reported loss_after nan"),
    "no scores": ({"scores": None}, "group importances were asked for and are missing"),
}


@pytest.mark.parametrize("case", CASES)
def test_who_does_not_fit_is_named_and_the_others_count(case: str, tiny: TinyModel, tmp_path: Path) -> None:
    played = opened(tmp_path, tiny, [*PRUNING, "training.codec=identity"])
    changes, words = CASES[case]
    stack, scores = stack_of(played, played.begin())
    reports = [device_report(), changes.get("report", device_report())]
    if "value" in changes:
        stack.tensors["head.bias"][1, 0] = changes["value"]
    if "scores" in changes:
        scores[1] = None
    stack = replace(stack, **{key: changes[key] for key in ("round", "weights") if key in changes})
    refused = dict(played.sum.fold_stack(stack, reports, scores))
    expected = set(DEVICES) if case == "other round" else {"b"}
    assert refused.keys() == expected
    assert refused["b"].startswith(f"update of b for round {stack.round}: ") and words in refused["b"]
    assert played.sum.folded == set(DEVICES) - expected
    shut(played.engine)


def test_a_device_counts_once_and_an_unknown_one_never(tiny: TinyModel, tmp_path: Path) -> None:
    played = opened(tmp_path, tiny, DENSE)
    stack, _ = stack_of(played, played.begin())
    reports, scores = [device_report()] * 2, [None] * 2
    assert played.sum.fold_stack(stack, reports, scores) == ()
    again = dict(played.sum.fold_stack(stack, reports, scores))
    assert again.keys() == set(DEVICES) and "is counted already" in again["a"]
    strange = dict(played.sum.fold_stack(replace(stack, devices=("x", "y")), reports, scores))
    assert strange.keys() == {"x", "y"} and "no open assignment asks for it" in strange["x"]
    played.close(1)
    (report,) = played.engine.ledger.reports().values()
    assert report["weight"] == sum(stack.weights)
    with pytest.raises(ValueError, match="a stack of 2 with 1 reports"):
        played.sum.fold_stack(stack, reports[:1], scores)
    shut(played.engine)
