import pytest
import torch
from transformers import AutoConfig, AutoModel

from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.model.module_paths import attention_path, module_path
from fedcore.nn.model.fused import part
from tests.tiny_models import KINDS, tiny_config


@pytest.mark.parametrize("kind", KINDS)
def test_every_path_leads_to_the_layer_the_geometry_describes(kind: str) -> None:
    config = tiny_config(kind)
    model = AutoModel.from_config(config)
    geometry = geometry_from_config(config.to_dict())
    part(model, geometry)
    biased = dict.fromkeys("qkv", geometry.qkv_bias) | {"o": geometry.o_bias}
    for layer in range(geometry.layers):
        for module in geometry.modules:
            found = model.get_submodule(module_path(geometry, layer, module))
            assert isinstance(found, torch.nn.Linear)
            assert tuple(found.weight.shape) == geometry.shape(module)
            assert (found.bias is not None) == biased.get(module, geometry.ffn_bias)
        attention = model.get_submodule(attention_path(geometry, layer))
        assert module_path(geometry, layer, "q").startswith(f"{attention_path(geometry, layer)}.")
        assert attention is not model


def test_a_module_the_family_lacks_has_no_path() -> None:
    bert = geometry_from_config(AutoConfig.for_model("bert").to_dict())
    assert module_path(bert, 3, "up") == "encoder.layer.3.intermediate.dense"
    assert attention_path(bert, 3) == "encoder.layer.3.attention.self"
    with pytest.raises(KeyError):
        module_path(bert, 0, "gate")
