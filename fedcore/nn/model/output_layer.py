"""The output layer of a causal language model: one with the embeddings, or the checkpoint's own. It never trains."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedcore.core.errors import ModelError
from fedcore.nn.model.model_folder import read_tensors

NAME = "lm_head"
_STORED = (f"{NAME}.weight", "embed_out.weight")  # the second: of GPT-NeoX, before transformers 5


def put_output_layer(model: Any, files: Sequence[Path]) -> None:
    """Give `model`, whose backbone is loaded, its output layer in the backbone's type.

    Raises ModelError where the model's embeddings are not tied and its checkpoint has no output layer.
    """
    embeddings = model.get_input_embeddings().weight
    layer = getattr(model, NAME)
    if getattr(model.config, "tie_word_embeddings", False):
        layer.weight = embeddings
    else:
        found = next(iter(read_tensors(files, set(_STORED)).values()), None)
        if found is None or found.shape != embeddings.shape:
            raise ModelError(
                f"{files[0].parent}: the checkpoint has no {NAME}.weight of shape {tuple(embeddings.shape)}, and "
                "config.json does not tie it to the embeddings; take a checkpoint of a causal language model"
            )
        layer.weight = nn.Parameter(found.to(embeddings.dtype))
    if layer.bias is not None:
        raise ModelError(f"{files[0].parent}: an output layer with a bias is not supported")
    layer.weight.requires_grad_(False)


def is_tied(model: Any) -> bool:
    """Whether a model's output layer is its embeddings, so that a file holds them once."""
    layer: torch.nn.Linear | None = getattr(model, NAME, None)
    return layer is not None and layer.weight is model.get_input_embeddings().weight
