"""Which keys of a base model's config a run takes over, and an export passes on: those that say what its layers are.

A config says much else: what its last owner trained it for (`problem_type`, `id2label`, `task_specific_params`), how
outputs come (`return_dict`, `output_attentions`), where it came from (`architectures`, `auto_map`), what was done with
it (`quantization_config`, `pruned_heads`). None of it is the run's, and what is not on the list is left behind.
"""

from collections.abc import Mapping
from typing import Any

from transformers import AutoConfig

from fedcore.core.model.families import FAMILIES, family_of

_SHARED = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "tie_word_embeddings",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)
BY_LAYER = ("layer_types", "no_rope_layers")

# What else decides which tokenizer transformers takes.
_TOKENIZER = ("tokenizer_class", "model_name")


def architecture(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a config, as `config.json` or `to_dict()` has them, that say what the model's layers are.

    Its `model_type` is one that can be pruned (`fedcore.core.model.families`).
    """
    family = family_of(config["model_type"])
    shared = (key for key in _SHARED if key not in family.names)
    return {key: config[key] for key in (*shared, *family.keys) if key in config}


def model_config(config: Mapping[str, Any]) -> Any:
    """Return transformers' config of a backbone as a `config.json` describes it.

    Raises whatever transformers does for a value that it does not take.
    """
    return type(AutoConfig.for_model(config["model_type"])).from_dict(architecture(config))


def with_one_layer(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config of the same model with its first layer alone."""
    by_layer = {key: config[key][:1] for key in BY_LAYER if config.get(key)}
    family = FAMILIES.get(str(config.get("model_type")))
    return {**config, family.name("num_hidden_layers") if family else "num_hidden_layers": 1, **by_layer}


def tokenizer_config(config: Mapping[str, Any], folder: str) -> Any:
    """Return the config by which transformers chooses the tokenizer in `folder`; None where the type is not known."""
    try:
        known = AutoConfig.for_model(str(config["model_type"]))
    except (KeyError, ValueError):
        return None
    for key in _TOKENIZER:
        if key in config:
            setattr(known, key, config[key])
    known._name_or_path = folder
    return known
