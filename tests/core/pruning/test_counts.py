import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.errors import ConfigError
from fedcore.core.model.geometry import Counts, Geometry
from fedcore.core.pruning.counts import keep_counts

SPARSITIES = st.floats(0, 1, exclude_max=True)


@st.composite
def geometries(draw):
    kv = draw(st.sampled_from([1, 2, 3, 4, 8, 12]))
    family = draw(st.sampled_from(["bert", "llama"]))
    biased = draw(st.booleans())
    return Geometry(
        family=family,
        model_type=family,
        layers=draw(st.integers(1, 3)),
        hidden=draw(st.sampled_from([8, 64, 384, 4096])),
        query_heads=kv * draw(st.integers(1, 4)),
        kv_heads=kv,
        head_dim=draw(st.sampled_from([2, 32, 128])),
        ffn=draw(st.integers(1, 3000)),
        vocab=100,
        positions=0,
        token_types=0,
        qkv_bias=biased,
        o_bias=biased,
        ffn_bias=biased,
    )


@pytest.mark.parametrize(
    ("sparsity", "counts"),
    [(0.0, (12, 1536)), (0.25, (9, 1152)), (0.5, (6, 768)), (0.75, (3, 384)), (0.99, (1, 8))],
)
def test_minilm_counts(minilm, sparsity, counts):
    assert keep_counts(minilm, sparsity) == Counts(*counts)


@pytest.mark.parametrize(
    ("sparsity", "counts"), [(0.0, (3, 1536)), (0.25, (3, 1024)), (0.5, (3, 512)), (0.62, (2, 384)), (0.75, (1, 344))]
)
def test_units_of_several_query_heads_leave_after_three_quarters_of_the_channels(smollm, sparsity, counts):
    assert keep_counts(smollm, sparsity) == Counts(*counts)


@settings(max_examples=150)
@given(geometries(), SPARSITIES, SPARSITIES)
def test_sparser_never_keeps_more_of_anything(geometry, one, other):
    dense, sparse = sorted((one, other))
    wide, narrow = keep_counts(geometry, dense), keep_counts(geometry, sparse)
    assert narrow[0] <= wide[0]
    assert narrow[1] <= wide[1]


@settings(max_examples=150)
@given(geometries(), SPARSITIES)
def test_counts_are_legal(geometry, sparsity):
    heads, channels, _ = keep_counts(geometry, sparsity)
    assert 1 <= heads <= geometry.head_units
    assert 1 <= channels <= geometry.ffn
    assert geometry.ffn < 256 or channels == geometry.ffn or channels % 8 == 0
    assert keep_counts(geometry, 0.0) == Counts(geometry.head_units, geometry.ffn)


@settings(max_examples=150)
@given(geometries(), SPARSITIES)
def test_realised_sparsity_is_near_unless_the_floor_is_hit(geometry, sparsity):
    counts = keep_counts(geometry, sparsity)
    step = 8 if geometry.ffn >= 256 else 1
    if counts.channels <= step:
        return
    miss = abs(geometry.sparsity(counts) - sparsity) * geometry.prunable_params
    assert miss <= geometry.layers * (geometry.head_unit_params / 2 + geometry.channel_params * step) * 1.0001


def test_realised_sparsity_of_minilm_misses_by_a_half_head_at_most(minilm):
    for percent in range(90):
        assert abs(minilm.sparsity(keep_counts(minilm, percent / 100)) - percent / 100) < 0.016


@pytest.mark.parametrize("sparsity", [1.0, -0.1, 1.2])
def test_refuses_sparsity_out_of_range(minilm, sparsity):
    with pytest.raises(ConfigError, match="sparsity"):
        keep_counts(minilm, sparsity)
