"""What a model's config says that no device here can train on, whoever reads it first: a coordinator or a device."""

from collections.abc import Mapping
from typing import Any


def unsupported(config: Mapping[str, Any]) -> str | None:
    """Return why a model with this `config.json` cannot be used, with the remedy; None where nothing speaks against it.

    Which families can be pruned says `fedcore.core.model.geometry`.
    """
    if config.get("quantization_config"):
        return "the weights are quantized; load them with transformers, dequantize, and save again"
    kind = config.get("position_embedding_type", "absolute")
    if kind != "absolute":
        return f"position_embedding_type {kind!r} is not supported; expected 'absolute'"
    return None
