from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.codec.chain import decode, encode
from fedcore.core.codec.feedback import Coordinates, Residual, carried, compensated, left_over, waiting
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.model.keep_set import KeepSet
from tests.tiny_run import MODEL

GEOMETRY = geometry_from_config(MODEL)
HEADS, CHANNELS = tuple(range(GEOMETRY.head_units)), tuple(range(GEOMETRY.ffn))
DENSE = KeepSet(heads=(HEADS,) * GEOMETRY.layers, channels=(CHANNELS,) * GEOMETRY.layers)
HERE = Coordinates(basis="persistent", rank=2, keep_set=DENSE)
NAMES = tuple(AdapterSpec(geometry=GEOMETRY, rank=2, targets=GEOMETRY.modules, head=(("head.bias", (2,)),)).shapes())
LOSSY = ("bf16", "int8", "int4:8", "topk:0.1", "topk:0.2+int4+zstd")


def residual():
    return Residual(at=HERE, tensors={name: np.ones(1, dtype=np.float32) for name in NAMES})


def gone(now):
    return set(NAMES) - set(carried(residual(), residual().tensors, now, GEOMETRY))


def rounds(codec, increments):
    """Return (decoded updates, last residual) of a device that sends every increment with feedback."""
    kept, received = {}, []
    for increment in increments:
        sent = compensated({"x": increment}, kept)
        received.append(decode(encode(sent, codec))["x"])
        kept = left_over(sent, {"x": received[-1]})
    return received, kept["x"]


def test_what_is_frozen_waits_for_its_turn():
    trained = {name: np.zeros(1, np.float32) for name in NAMES if not name.endswith(".A")}
    assert set(waiting(residual(), trained, HERE, GEOMETRY)) == {name for name in NAMES if name.endswith(".A")}
    assert waiting(residual(), trained, replace(HERE, basis="another"), GEOMETRY) == {}
    assert waiting(None, trained, HERE, GEOMETRY) == waiting(residual(), residual().tensors, HERE, GEOMETRY) == {}


def test_nothing_is_lost_by_hand():
    received, kept = rounds("topk:0.5", [np.array([4, 3], np.float32), np.array([1, 1], np.float32)])
    assert [each.tolist() for each in received] == [[4, 0], [0, 4]] and kept.tolist() == [1, 0]


@pytest.mark.parametrize("codec", LOSSY)
@settings(max_examples=15)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 6))
def test_what_was_sent_and_what_is_kept_is_everything(codec, seed, count):
    rng = np.random.default_rng(seed)
    increments = [rng.standard_normal(60).astype(np.float32) for _ in range(count)]
    received, kept = rounds(codec, increments)
    total = np.sum(increments, axis=0, dtype=np.float64)
    assert np.allclose(np.sum(received, axis=0, dtype=np.float64) + kept, total, atol=1e-5 * count)


@pytest.mark.parametrize("codec", LOSSY)
def test_the_error_of_a_sum_does_not_grow_with_its_length(codec):
    increments = [np.random.default_rng(seed).standard_normal(200).astype(np.float32) * 0.01 for seed in range(40)]
    plain = [decode(encode({"x": each}, codec))["x"] for each in increments]
    fed, _ = rounds(codec, increments)
    total = np.sum(increments, axis=0)
    with_feedback = np.abs(np.sum(fed, axis=0) - total).max()
    without = np.abs(np.sum(plain, axis=0) - total).max()
    assert with_feedback < 0.5 * without


def test_equal_coordinates_carry_everything():
    assert (
        gone(HERE) == set()
        and gone(replace(HERE, keep_set=KeepSet(heads=DENSE.heads, channels=DENSE.channels))) == set()
    )
    assert carried(None, residual().tensors, HERE, GEOMETRY) == {}


@pytest.mark.parametrize("changed", [{"basis": "sha256:1"}, {"rank": 3}])
def test_another_basis_or_rank_leaves_only_the_head(changed):
    assert gone(replace(HERE, **changed)) == set(NAMES) - {"head.bias"}


def test_a_cut_drops_the_side_that_was_cut_and_no_other():
    fewer_heads = KeepSet(heads=(HEADS[1:],) * GEOMETRY.layers, channels=DENSE.channels)
    fewer_channels = KeepSet(heads=DENSE.heads, channels=(CHANNELS[1:],) * GEOMETRY.layers)
    heads = {name for name in NAMES if name.endswith(("q.B", "k.B", "v.B", "o.A"))}
    channels = {name for name in NAMES if name.endswith(("gate.B", "up.B", "down.A"))}
    assert heads and channels
    assert gone(replace(HERE, keep_set=fewer_heads)) == heads
    assert gone(replace(HERE, keep_set=fewer_channels)) == channels


def test_other_groups_of_equal_number_are_other_coordinates():
    here = replace(HERE, keep_set=KeepSet(heads=(HEADS[1:],) * GEOMETRY.layers, channels=DENSE.channels))
    there = replace(HERE, keep_set=KeepSet(heads=(HEADS[:-1],) * GEOMETRY.layers, channels=DENSE.channels))
    kept = carried(Residual(at=here, tensors=residual().tensors), residual().tensors, there, GEOMETRY)
    assert "layers.0.q.B" not in kept and "layers.0.q.A" in kept


def test_a_residual_of_another_model_is_not_added():
    now = {"head.bias": np.ones(3, np.float32), "head.more": np.ones(1, np.float32)}
    assert carried(residual(), now, HERE, GEOMETRY) == {}
    deeper = replace(HERE, keep_set=KeepSet(heads=(HEADS,) * 9, channels=(CHANNELS,) * 9))
    assert "layers.0.q.B" not in carried(residual(), residual().tensors, deeper, GEOMETRY)


def test_a_broken_update_leaves_nothing_over():
    broken = {"x": np.array([np.nan, 1], np.float32), "y": np.array([2, 1], np.float32)}
    assert set(left_over(broken, decode(encode(broken, "int8")))) == {"y"}
