"""The paths of the prunable linear layers in a Hugging Face backbone, by canonical name."""

from fedcore.core.model.geometry import Geometry

_PATHS = {
    "bert": {
        "q": "encoder.layer.{}.attention.self.query",
        "k": "encoder.layer.{}.attention.self.key",
        "v": "encoder.layer.{}.attention.self.value",
        "o": "encoder.layer.{}.attention.output.dense",
        "up": "encoder.layer.{}.intermediate.dense",
        "down": "encoder.layer.{}.output.dense",
    },
    "llama": {
        "q": "layers.{}.self_attn.q_proj",
        "k": "layers.{}.self_attn.k_proj",
        "v": "layers.{}.self_attn.v_proj",
        "o": "layers.{}.self_attn.o_proj",
        "gate": "layers.{}.mlp.gate_proj",
        "up": "layers.{}.mlp.up_proj",
        "down": "layers.{}.mlp.down_proj",
    },
}


def module_path(geometry: Geometry, layer: int, module: str) -> str:
    """Return the dotted path of a canonical module in block `layer` of the backbone (BertModel, LlamaModel, ...).

    Raises KeyError for a module that the family does not have.
    """
    return _PATHS[geometry.family][module].format(layer)


def attention_path(geometry: Geometry, layer: int) -> str:
    """Return the dotted path of the attention block that holds head counts as attributes."""
    return module_path(geometry, layer, "q").rpartition(".")[0]


def blocks_path(geometry: Geometry) -> str:
    """Return the dotted path of the list of transformer blocks inside the backbone."""
    return module_path(geometry, 0, "q").partition(".0.")[0]
