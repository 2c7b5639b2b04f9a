import pytest

from fedcore.core.errors import ModelError
from fedcore.core.model.families import FAMILIES, family_of
from fedcore.core.model.geometry import Counts, geometry_from_config
from fedcore.core.model.module_paths import fused_rows, module_path, stored_in

SIZES = {"num_hidden_layers": 2, "hidden_size": 8, "num_attention_heads": 4, "intermediate_size": 6, "vocab_size": 16}


def test_an_unknown_type_is_refused_with_the_list() -> None:
    with pytest.raises(ModelError) as raised:
        family_of("t5")
    assert "cannot prune a model of type 't5'" in str(raised.value)
    assert all(known in str(raised.value) for known in FAMILIES)


@pytest.mark.parametrize("model_type", FAMILIES)
def test_every_module_has_one_place(model_type: str) -> None:
    family = FAMILIES[model_type]
    modules = {*family.layout.paths, *(module for fused in family.layout.fused for module in fused.parts)}
    gate = {"gate"} if family.shape == "llama" else set()
    assert modules == {"q", "k", "v", "o", "up", "down"} | gate
    assert len(modules) == len(family.layout.paths) + sum(len(fused.parts) for fused in family.layout.fused)


def test_a_missing_head_size_is_the_familys_own() -> None:
    config = {"model_type": "qwen3", **SIZES, "num_key_value_heads": 2}
    assert geometry_from_config(config).head_dim == 128
    assert geometry_from_config(config | {"head_dim": 4}).head_dim == 4
    assert geometry_from_config(config | {"model_type": "mistral"}).head_dim == 2


def test_gpt2_says_its_sizes_in_words_of_its_own() -> None:
    config = {"model_type": "gpt2", "n_embd": 8, "n_layer": 2, "n_head": 4, "n_positions": 16, "vocab_size": 16}
    geometry = geometry_from_config(config)
    assert (geometry.hidden, geometry.layers, geometry.query_heads, geometry.ffn) == (8, 2, 4, 32)
    assert geometry_from_config(config | {"n_inner": 12}).ffn == 12


def test_rows_of_a_fused_layer() -> None:
    phi3 = geometry_from_config({"model_type": "phi3", **SIZES, "num_key_value_heads": 2})
    rows = fused_rows(phi3, FAMILIES["phi3"].layout.fused[0])
    assert {module: (part[0], len(part)) for module, part in rows.items()} == {"q": (0, 8), "k": (8, 4), "v": (12, 4)}
    cut = fused_rows(phi3, FAMILIES["phi3"].layout.fused[0], Counts(heads=1, channels=6))
    assert {module: (part[0], len(part)) for module, part in cut.items()} == {"q": (0, 4), "k": (4, 2), "v": (6, 2)}


def test_rows_of_a_layer_fused_by_head() -> None:
    neox = geometry_from_config({"model_type": "gpt_neox", **SIZES, "max_position_embeddings": 16})
    assert neox.family == "gpt" and not neox.gated
    place = stored_in(neox, 1, "k")
    assert place.path == "layers.1.attention.query_key_value" and place.shape == (24, 8)
    assert place.rows is not None and place.rows.tolist() == [2, 3, 8, 9, 14, 15, 20, 21]
    assert module_path(neox, 1, "k") == "layers.1.attention.query_key_value.k"
