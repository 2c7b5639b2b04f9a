import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.cost.training_step import (
    MIB,
    StepShape,
    base_parameters,
    transfer_seconds,
)
from fedcore.core.errors import ConfigError
from fedcore.core.model.geometry import Counts, Geometry, geometry_from_config
from fedcore.core.model.trained_part import EVERYTHING, Factors, TrainedPart

MINILM = geometry_from_config(
    {
        "model_type": "bert",
        "num_attention_heads": 12,
        "hidden_size": 384,
        "num_hidden_layers": 6,
        "vocab_size": 30522,
        "intermediate_size": 1536,
        "max_position_embeddings": 512,
        "type_vocab_size": 2,
    }
)
SMOLLM = geometry_from_config(
    {
        "model_type": "llama",
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "hidden_size": 576,
        "num_hidden_layers": 30,
        "vocab_size": 49152,
        "intermediate_size": 1536,
        "max_position_embeddings": 8192,
    }
)


def step(geometry: Geometry = MINILM, **changes) -> StepShape:
    """A step of MiniLM; `heads` and `channels` may be changed one by one."""
    kept = Counts(changes.pop("heads", geometry.head_units), changes.pop("channels", geometry.ffn))
    usual = {"rank": 8, "batch_size": 16, "max_length": 64, "targets": geometry.modules}
    return StepShape(geometry=geometry, kept=kept, **(usual | changes))


def memory(**changes) -> float:
    return step(**changes).memory_mb(num_labels=2)


def flops(**changes) -> float:
    return step(**changes).forward_flops()


def test_parameters_are_those_of_the_published_models():
    assert base_parameters(MINILM, Counts(12, 1536)) == 22_713_216 - (384 * 384 + 384)  # without the pooler
    assert base_parameters(SMOLLM, Counts(3, 1536)) == 134_515_008


def test_multi_query_attention_keeps_its_only_key_and_value():
    shape = {
        "model_type": "llama",
        "num_attention_heads": 4,
        "num_key_value_heads": 1,
        "hidden_size": 8,
        "num_hidden_layers": 1,
        "vocab_size": 10,
        "intermediate_size": 16,
    }
    geometry = geometry_from_config(shape)
    q_and_o, k_and_v, ffn, norms, embeddings = 2 * 8 * 8, 2 * 2 * 8, 3 * 16 * 8, 3 * 8, 10 * 8
    assert base_parameters(geometry, Counts(4, 16)) == q_and_o + k_and_v + ffn + norms + embeddings


@pytest.mark.parametrize(
    ("measured_mb", "changes"),
    [  # peaks of live tensors in a second AdamW step of a BertModel of this shape, padded batch
        (249.0, {}),
        (263.8, {"rank": 32}),
        (164.4, {"channels": 384}),
        (201.7, {"batch_size": 8, "max_length": 128, "targets": ("q", "v")}),
        (246.6, {"part": TrainedPart(factors=Factors.A)}),
        (199.6, {"part": TrainedPart(factors=Factors.B)}),
        (149.2, {"part": TrainedPart(first_layer=4)}),
        (152.5, {"part": TrainedPart(factors=Factors.B, first_layer=3)}),
        (181.0, {"part": TrainedPart(factors=Factors.A), "dtype_bytes": 2}),
        (107.8, {"part": TrainedPart(factors=Factors.B), "dtype_bytes": 2}),
    ],
)
def test_memory_is_within_four_percent_of_measurements(measured_mb, changes):
    assert memory(**changes) == pytest.approx(measured_mb, rel=0.04)


def test_adapter_state_counts_four_times_in_float32():
    more = memory(rank=9, batch_size=1, max_length=2) - memory(rank=8, batch_size=1, max_length=2)
    factor_values = 6 * (4 * (384 + 384) + 2 * (384 + 1536))
    inner_products = 6 * 6 * 2
    assert more * MIB == pytest.approx(factor_values * 16 + inner_products * 4)


@given(st.integers(1, 11), st.integers(1, 1535), st.integers(1, 63))
def test_everything_kept_costs(heads, channels, rank):
    small = {"heads": heads, "channels": channels, "rank": rank}
    for name, step in (("heads", 1), ("channels", 1), ("rank", 1)):
        large = small | {name: small[name] + step}
        assert memory(**large) > memory(**small)
        assert flops(**large) > flops(**small)


def test_half_sparsity_saves_memory_and_bfloat16_saves_more():
    dense, half = memory(), memory(heads=6, channels=768)
    assert half < 0.75 * dense
    assert memory(dtype_bytes=2) < dense


def test_forward_flops_of_a_small_layer():
    tokens, length = 16 * 64, 64
    weights = 4 * 384 * 384 + 2 * 384 * 1536
    assert flops(rank=0) == 2 * tokens * 6 * (weights + 2 * length * 384)
    assert flops(rank=8) - flops(rank=0) == 2 * tokens * 6 * 8 * (4 * 768 + 2 * 1920)


def test_step_seconds_scale_with_speed_and_slowdown():
    one = step().seconds(1e11)
    assert one == pytest.approx((2 * flops(rank=0) + 3 * (flops() - flops(rank=0))) / 1e11)
    assert step().seconds(5e10, slowdown=3.0) == pytest.approx(6 * one)
    with pytest.raises(ConfigError, match="cost model"):
        step().seconds(0.0)
    with pytest.raises(ConfigError, match="slowdown"):
        step().seconds(1.0, slowdown=0.5)


def test_a_step_of_a_part_forms_only_its_own_gradients():
    base, adapters = flops(rank=0), flops() - flops(rank=0)
    ins, outs = 4 * 384 + 384 + 1536, 4 * 384 + 1536 + 384  # per unit of rank: the same for a BERT
    assert ins == outs
    for trains, expected in (
        (EVERYTHING, 2 * base + 3 * adapters),
        (TrainedPart(factors=Factors.A), 2 * base + 2.5 * adapters),
        (TrainedPart(factors=Factors.B), 2 * base + 2.5 * adapters),
        (TrainedPart(first_layer=2), (1 + 4 / 6) * base + (1 + 2 * 4 / 6) * adapters),
        (TrainedPart(first_layer=6), base + adapters),
        (TrainedPart(first_layer=9), base + adapters),
    ):
        found = step(part=trains).seconds(1.0)
        assert found == pytest.approx(expected, rel=1e-12) and (not trains.everything or found == expected)


def test_values_of_a_part_are_counted_by_factor_and_layer():
    counts = {"heads": 6, "channels": 100, "rank": 2, "targets": ("q", "up", "down")}
    a, b = 384 + 384 + 100, 192 + 100 + 384
    for trains, expected in (
        (EVERYTHING, 6 * 2 * (a + b)),
        (TrainedPart(factors=Factors.A), 6 * 2 * a),
        (TrainedPart(factors=Factors.B, first_layer=4), 2 * 2 * b),
        (TrainedPart(first_layer=7), 0),
    ):
        assert step(**counts, part=trains).trained_values() == expected


def test_transfer_seconds_are_bits_over_megabits():
    assert transfer_seconds(1_000_000, 8.0) == 1.0
    assert transfer_seconds(10**9, 0.0) == 0.0
    with pytest.raises(ConfigError, match="transfer"):
        transfer_seconds(-1, 8.0)


def test_packed_weights_take_less_memory_and_the_rest_stays() -> None:
    linear = MINILM.layers * sum(out * into for out, into in map(MINILM.shape, MINILM.modules))
    widest = 384 * 1536  # is unpacked while it is used
    dense, eight, four = (memory(quantize=form) * MIB for form in ("none", "int8", "nf4"))
    assert dense - eight == pytest.approx(linear * 3 - widest * 4, rel=0.01)
    assert dense - four == pytest.approx(linear * (4 - 0.516) - widest * 4, rel=0.01)
