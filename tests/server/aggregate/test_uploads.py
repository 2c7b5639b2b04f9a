"""An uploaded update is verified as a whole: payload, report and importances, with exact bounds on its bytes."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedcore.core.codec.chain import encode
from fedcore.core.contract.assignment import Assignment
from fedcore.core.errors import UpdateRejected
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.convert.assignment import from_wire
from fedcore.protos.values import BlobRef
from fedcore.server.aggregate.uploads import (
    check_report,
    read_scores,
    score_bound,
    score_shapes,
    upload_bound,
    verify_upload,
)
from tests.tiny_run import device_report, score_vectors
from tests.tiny_tier import GEOMETRY, KEPT, SPEC, answer, assignment, root_sum, small

WORK = assignment(score=True)
WORKS = {"ada": WORK}
GIVEN: Assignment = from_wire(WORK, device="ada", keep_set=KEPT)
CUT = KeepSet(
    heads=tuple(heads[:1] for heads in KEPT.heads), channels=tuple(channels[:3] for channels in KEPT.channels)
)


def test_an_update_comes_with_its_tensors_its_weight_and_its_importances(tmp_path: Path) -> None:
    submission = answer("ada", WORK)
    update, scores, kept = verify_upload(submission, GIVEN, root_sum(tmp_path, WORKS).terms)
    assert (update.device, update.round, update.weight, update.rank) == ("ada", 1, 4, 1) and kept == submission
    assert scores is not None
    np.testing.assert_array_equal(scores.channels[0], score_vectors(KEPT, "ada")["layers.0.channels"])
    assert update.tensors.keys() == SPEC.shapes(rank=1, keep_set=KEPT).keys()


def test_importances_that_were_not_requested_are_left_out(tmp_path: Path) -> None:
    given = replace(GIVEN, score=False)
    _, scores, kept = verify_upload(answer("ada", WORK), given, root_sum(tmp_path, WORKS).terms)
    assert scores is None and kept == replace(answer("ada", WORK), scores=None)


def test_a_refusal_names_device_and_round_once(tmp_path: Path) -> None:
    terms = root_sum(tmp_path, WORKS).terms
    start = "update of ada for round 1: "
    for changes, words in (
        ({"keep_set": CUT.blob_id}, "not the assigned one"),
        ({"scores": None}, "are missing"),
        ({"update": small(b"no container")}, ""),
        ({"report": replace(device_report(), phase_s={"train": -1.0})}, "reported train_s -1.0, expected a finite"),
    ):
        with pytest.raises(UpdateRejected) as caught:
            verify_upload(replace(answer("ada", WORK), **changes), GIVEN, terms)
        assert str(caught.value).startswith(start) and words in str(caught.value)
        assert str(caught.value).count(start) == 1


def test_an_empty_stored_blob_is_refused(tmp_path: Path) -> None:
    terms = root_sum(tmp_path, WORKS).terms
    empty = BlobRef(id=terms.blobs.put_bytes(b""), size=0)
    with pytest.raises(UpdateRejected, match="is empty; send the encoded tensors"):
        verify_upload(replace(answer("ada", WORK), update=empty), GIVEN, terms)


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e-9])
@pytest.mark.parametrize("name", ["loss_before", "peak_memory_mb"])
def test_every_figure_is_finite_and_not_negative(name: str, value: float) -> None:
    report = device_report()
    check_report(report, "x")
    check_report(replace(report, metrics=replace(report.metrics, **{name: 0.0})), "x")
    with pytest.raises(UpdateRejected, match=f"x: reported {name} {value}, expected a finite number of 0 or more"):
        check_report(replace(report, metrics=replace(report.metrics, **{name: value})), "x")


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_energy_may_be_unknown_and_is_checked_where_it_is_not(value: float) -> None:
    check_report(replace(device_report(), energy_j=3.0), "x")
    with pytest.raises(UpdateRejected, match=f"x: reported energy_j {value}, expected a finite number of 0 or more"):
        check_report(replace(device_report(), energy_j=value), "x")


def test_importances_have_one_value_for_every_kept_group() -> None:
    layers = len(CUT.heads)
    expected = {f"layers.{layer}.heads": (1,) for layer in range(layers)}
    assert score_shapes(CUT) == expected | {f"layers.{layer}.channels": (3,) for layer in range(layers)}
    data = encode(score_vectors(CUT, "ada"), "identity")
    read = read_scores(memoryview(data), replace(GIVEN, keep_set=CUT), "x")
    assert [value.shape for value in read.channels] == [(3,)] * layers


@pytest.mark.parametrize("value", [math.nan, -1.0])
def test_importances_are_finite_and_not_negative(value: float) -> None:
    vectors = score_vectors(KEPT, "ada")
    name = next(iter(vectors))
    vectors[name] = vectors[name].copy()
    vectors[name][0] = value
    with pytest.raises(UpdateRejected, match=f"x: importances {name} must be"):
        read_scores(memoryview(encode(vectors, "identity")), GIVEN, "x")


def test_bounds_hold_for_what_fits_and_shrink_with_the_keep_set() -> None:
    cut = replace(GIVEN, keep_set=CUT)
    for given in (GIVEN, cut):
        shapes = SPEC.shapes(rank=1, keep_set=given.keep_set)
        update = encode({name: np.ones(shape, np.float32) for name, shape in shapes.items()}, "identity")
        scores = encode(score_vectors(given.keep_set, "ada"), "identity")
        assert len(update) <= upload_bound(given, SPEC) and len(scores) <= score_bound(given)
    assert upload_bound(cut, SPEC) < upload_bound(GIVEN, SPEC) and score_bound(cut) < score_bound(GIVEN)
    assert GEOMETRY.layers == len(KEPT.heads)


def test_influences_of_layers_come_where_they_are_asked_for_and_removed_layers_send_nothing() -> None:
    shorter = KeepSet(heads=((), *KEPT.heads[1:]), channels=((), *KEPT.channels[1:]))
    deep = replace(GIVEN, keep_set=shorter, training=replace(GIVEN.training, score_layers=True))
    vectors = {name: np.ones(shape, np.float32) for name, shape in score_shapes(shorter, influences=True).items()}
    assert "layers.0.heads" not in vectors and vectors["influences"].shape == (len(KEPT.heads) - 1,)
    data = encode(vectors, "identity")
    scores = read_scores(memoryview(data), deep, "x")
    assert scores.heads[0].size == 0 == scores.channels[0].size and scores.layers is not None
    assert scores.layers.tolist() == [1.0] * (len(KEPT.heads) - 1) and len(data) <= score_bound(deep)
    with pytest.raises(UpdateRejected, match=r"unexpected \['layers.0.heads'\]"):
        read_scores(memoryview(encode({**vectors, "layers.0.heads": np.ones(1, np.float32)}, "identity")), deep, "x")
