from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.errors import ModelError
from fedcore.core.model.geometry import Counts, Geometry, geometry_from_config

SIZES = {"num_hidden_layers": 2, "hidden_size": 8, "intermediate_size": 12, "vocab_size": 20}
BERT = {"model_type": "bert", **SIZES, "num_attention_heads": 4, "max_position_embeddings": 16, "type_vocab_size": 2}
GQA = {"model_type": "llama", **SIZES, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 3}
MQA = GQA | {"num_key_value_heads": 1}


def test_bert_has_one_head_per_unit_and_biases_everywhere() -> None:
    geometry = geometry_from_config(BERT)
    assert geometry == Geometry(
        family="bert",
        model_type="bert",
        layers=2,
        hidden=8,
        query_heads=4,
        kv_heads=4,
        head_dim=2,
        ffn=12,
        vocab=20,
        positions=16,
        token_types=2,
        qkv_bias=True,
        o_bias=True,
        ffn_bias=True,
    )
    assert not geometry.gated and geometry.modules == ("q", "k", "v", "o", "up", "down")
    assert (geometry.head_units, geometry.queries_per_unit, geometry.kv_per_unit) == (4, 1, 1)
    # q, k, v: 2 rows of 8 weights and a bias each; o: 2 columns of 8
    assert geometry.head_unit_params == 3 * 2 * (8 + 1) + 2 * 8 == 70
    assert geometry.channel_params == (8 + 1) + 8 == 17  # a row and its bias in up, a column in down
    assert geometry.prunable_params == 2 * (4 * 70 + 12 * 17)


def test_grouped_queries_leave_together_with_their_key_and_value() -> None:
    geometry = geometry_from_config(GQA)
    assert geometry.gated and geometry.modules == ("q", "k", "v", "o", "gate", "up", "down")
    assert (geometry.head_units, geometry.queries_per_unit, geometry.kv_per_unit) == (2, 2, 1)
    assert not (geometry.qkv_bias or geometry.o_bias or geometry.ffn_bias)
    assert (geometry.positions, geometry.token_types) == (0, 0)
    assert geometry.head_unit_params == (2 + 2) * 3 * 8 + 2 * 3 * 8 == 144
    assert geometry.channel_params == 3 * 8
    assert geometry.shape("q", Counts(1, 5)) == (6, 8) and geometry.shape("k", Counts(1, 5)) == (3, 8)
    assert geometry.shape("o", Counts(1, 5)) == (8, 6) and geometry.shape("down", Counts(1, 5)) == (8, 5)


def test_the_only_key_value_head_stays_under_multi_query_attention() -> None:
    geometry = geometry_from_config(MQA)
    assert (geometry.head_units, geometry.queries_per_unit, geometry.kv_per_unit) == (4, 1, 0)
    assert geometry.cut("k") is None and geometry.cut("v") is None
    assert geometry.shape("k", Counts(1, geometry.ffn)) == geometry.shape("k") == (3, 8)
    assert geometry.head_unit_params == 2 * 3 * 8  # a query's rows and the output's columns


def test_a_single_head_is_one_whole_unit() -> None:
    geometry = geometry_from_config(GQA | {"num_attention_heads": 1, "num_key_value_heads": 1})
    assert (geometry.head_units, geometry.queries_per_unit, geometry.kv_per_unit) == (1, 1, 1)


@pytest.mark.parametrize(
    ("config", "biases"),
    [
        (GQA | {"model_type": "qwen2"}, (True, False, False)),
        (GQA | {"attention_bias": True}, (True, True, False)),
        (GQA | {"mlp_bias": True}, (False, False, True)),
        (GQA | {"model_type": "mistral", "attention_bias": True, "mlp_bias": True}, (False, False, False)),
        (GQA | {"model_type": "qwen2", "attention_bias": False, "mlp_bias": True}, (True, False, False)),
        (BERT | {"model_type": "roberta"}, (True, True, True)),
        (BERT | {"model_type": "xlm-roberta"}, (True, True, True)),
    ],
)
def test_biases_follow_the_family_s_code(config: dict[str, Any], biases: tuple[bool, bool, bool]) -> None:
    geometry = geometry_from_config(config)
    assert (geometry.qkv_bias, geometry.o_bias, geometry.ffn_bias) == biases


def test_biases_of_cut_rows_leave_with_them_and_the_others_stay() -> None:
    plain = geometry_from_config(GQA)
    biased = geometry_from_config(GQA | {"attention_bias": True, "mlp_bias": True})
    assert biased.head_unit_params - plain.head_unit_params == (2 + 2) * 3  # q, k, v rows; o's bias stays
    assert biased.channel_params - plain.channel_params == 2  # gate and up; down's bias stays


def test_sizes_a_config_leaves_out_have_defaults() -> None:
    without = {key: value for key, value in GQA.items() if key not in ("num_key_value_heads", "head_dim")}
    geometry = geometry_from_config(without)
    assert (geometry.kv_heads, geometry.head_dim) == (4, 2)
    assert geometry_from_config(GQA | {"head_dim": None}).head_dim == 2


@pytest.mark.parametrize("model_type", ["t5", "opt", None])
def test_a_family_that_cannot_be_pruned_is_named(model_type: str | None) -> None:
    with pytest.raises(ModelError, match=rf"type '{model_type}'; expected one of: bert, roberta, .*llama, mistral"):
        geometry_from_config(BERT | {"model_type": model_type})


@pytest.mark.parametrize(
    ("architectures", "remedy"),
    [
        (["BertForMaskedLM"], r', but architectures of BertForMaskedLM: add "model_type": "bert", or'),
        (["XLMRobertaModel", "Other"], r', but .*: add "model_type": "xlm-roberta", or'),
        (["OPTForCausalLM"], r', but .*: add "model_type": one of bert, roberta, xlm-roberta, llama'),
        (["GPTNeoXForCausalLM"], r', but .*: add "model_type": "gpt_neox", or'),
        (None, r': add "model_type": one of bert, roberta'),
        ("BertModel", r': add "model_type": one of bert, roberta'),
        ([], r': add "model_type": one of bert, roberta'),
    ],
)
def test_a_config_of_before_types_is_told_what_to_add(architectures: object, remedy: str) -> None:
    with pytest.raises(ModelError, match=rf"^config\.json has no model_type{remedy}"):
        geometry_from_config({"architectures": architectures})
    with pytest.raises(ModelError, match="has no model_type: add"):
        geometry_from_config({})


@pytest.mark.parametrize("key", ["num_attention_heads", "hidden_size", "intermediate_size", "max_position_embeddings"])
def test_a_missing_size_is_named(key: str) -> None:
    with pytest.raises(ModelError, match=rf"of type 'bert' has no key '{key}'; is config.json complete"):
        geometry_from_config({name: value for name, value in BERT.items() if name != key})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_attention_heads": 0}, "query_heads must be at least 1, got 0"),
        ({"num_attention_heads": 0, "head_dim": None}, "has a size that cannot be: integer division"),
        ({"hidden_size": "wide"}, "has a size that cannot be"),
        ({"num_hidden_layers": None}, "has a size that cannot be"),
        ({"num_hidden_layers": 0}, "layers must be at least 1, got 0"),
        ({"intermediate_size": -1}, "ffn must be at least 1, got -1"),
        ({"num_key_value_heads": 3}, "4 query heads do not divide into 3 key/value heads"),
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        geometry_from_config(GQA | change)


def test_an_unknown_module_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="unknown module 'x'; expected one of"):
        geometry_from_config(BERT).cut("x")


def test_sparsity_counts_groups_alone() -> None:
    geometry = geometry_from_config(BERT)
    assert geometry.sparsity(Counts(4, 12)) == 0.0
    assert geometry.sparsity(Counts(2, 6)) == 0.5
    assert geometry.sparsity(Counts(4, 6)) == pytest.approx(6 * 17 / (4 * 70 + 12 * 17))


GEOMETRIES = st.sampled_from([BERT, GQA, MQA, GQA | {"attention_bias": True, "mlp_bias": True}]).map(
    geometry_from_config
)


@given(GEOMETRIES, st.data())
def test_what_a_cut_takes_is_what_the_shapes_lose(geometry: Geometry, data: st.DataObject) -> None:
    heads = data.draw(st.integers(1, geometry.head_units))
    channels = data.draw(st.integers(1, geometry.ffn))
    biased = {"q": geometry.qkv_bias, "k": geometry.qkv_bias, "v": geometry.qkv_bias}
    biased |= {"gate": geometry.ffn_bias, "up": geometry.ffn_bias}
    held = {"now": 0, "dense": 0}
    for module in geometry.modules:
        cut = geometry.cut(module)
        for key, counts in (("now", Counts(heads, channels)), ("dense", None)):
            out, into = geometry.shape(module, counts)
            if cut is not None:
                held[key] += out * into + (out if biased.get(module, False) else 0)
                units = (heads if cut.unit == "head" else channels) if key == "now" else None
                if units is not None:
                    assert (out if cut.side == "out" else into) == units * cut.width
    assert geometry.layers * held["now"] == geometry.kept_params(Counts(heads, channels))
    assert geometry.layers * held["dense"] == geometry.prunable_params
    assert 0.0 <= geometry.sparsity(Counts(heads, channels)) < 1.0
