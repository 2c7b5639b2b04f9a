import pytest
import torch
from transformers import AutoModel

from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.model.module_paths import layout_of
from fedcore.nn.model.fused import fuse, part
from tests.tiny_models import tiny_batch, tiny_config


@pytest.mark.parametrize("kind", ["phi3", "gpt2", "gpt-neox"])
def test_parted_and_fused_again_are_the_tensors_there_were(kind: str) -> None:
    model = AutoModel.from_config(tiny_config(kind)).eval()
    geometry = geometry_from_config(model.config.to_dict())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
        before = model(**tiny_batch()).last_hidden_state
        held = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        part(model, geometry)
        torch.testing.assert_close(model(**tiny_batch()).last_hidden_state, before, atol=1e-5, rtol=1e-4)
    prefix = layout_of(geometry).backbone
    state = {f"{prefix}.{name}": tensor for name, tensor in model.state_dict().items()}
    assert set(state) != {f"{prefix}.{name}" for name in held}
    fuse(state, geometry, geometry.dense)
    assert set(state) == {f"{prefix}.{name}" for name in held}
    assert all(torch.equal(state[f"{prefix}.{name}"], tensor) for name, tensor in held.items())


def test_another_family_stays_as_it_is() -> None:
    model = AutoModel.from_config(tiny_config("llama"))
    before = dict(model.named_parameters())
    part(model, geometry_from_config(model.config.to_dict()))
    assert all(before[name] is parameter for name, parameter in model.named_parameters())
