"""How fast this machine trains a model of some shape, found out before any weight of it is loaded.

One layer of the model, with random weights, takes a forward and a backward pass as a frozen base does; the cost model
(fedcore.core.cost.training_step) says how many operations that is. So a device can say of itself how fast it is before
it has trained.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

from fedcore.core.cost.training_step import base_step_flops
from fedcore.core.model.geometry import geometry_from_config
from fedcore.nn.model.config_keys import model_config, with_one_layer
from fedcore.nn.model.load import DTYPES
from fedcore.nn.model.model_folder import quiet, read_config

TOKENS = 512  # of a pass, about
ENOUGH_S = 0.2  # of passes; the first, in which torch prepares itself, counts only where it takes as long alone
PASSES = 20  # at most
_WORDS = 8  # rows of the embedding table, which the passes do not use


def training_gflops(
    folder: Path, *, dtype: str, max_length: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the GFLOP/s of the fastest of a few passes of about TOKENS tokens in rows of `max_length`, > 0.

    `folder` holds the model's config.json; `dtype` is that of the frozen base. Raises ModelError for a config that
    cannot be read.
    """
    geometry = geometry_from_config(read_config(folder))
    layer = _one_layer(folder, DTYPES[dtype])
    rows = max(1, TOKENS // max_length)
    states = torch.randn(rows, max_length, geometry.hidden, dtype=DTYPES[dtype], requires_grad=True)
    flops = base_step_flops(geometry, batch_size=rows, max_length=max_length) / geometry.layers
    taken: list[float] = []
    while not taken or (len(taken) < PASSES and sum(taken) < ENOUGH_S):
        begin = clock()
        _pass(layer, states)
        taken.append(clock() - begin)
    return flops / max(min(taken), 1e-9) / 1e9


def _one_layer(folder: Path, dtype: torch.dtype) -> Any:
    with quiet():
        config = model_config(with_one_layer(read_config(folder)))
        config.vocab_size, config.pad_token_id = _WORDS, 0
        model = AutoModel.from_config(config, dtype=dtype, attn_implementation="sdpa")  # type: ignore[no-untyped-call]
    model.requires_grad_(False)
    return model.eval()


def _pass(layer: Any, states: torch.Tensor) -> None:
    layer(inputs_embeds=states).last_hidden_state.sum().backward()
    states.grad = None
