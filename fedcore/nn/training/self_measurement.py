"""How fast this machine trains a model of some shape, measured before any of its weights is loaded.

One layer of the model, with random weights, takes a forward and a backward pass as a frozen base does; the cost model
(fedcore.core.cost.training_step) says how many operations that is. So a device can report its speed before it has
trained.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModel

from fedcore.core.accelerators import CPU
from fedcore.core.cost.training_step import base_step_flops
from fedcore.core.model.families import family_of
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.precision import FLOAT32
from fedcore.nn.accelerator.clock import synchronised
from fedcore.nn.accelerator.precision import autocast
from fedcore.nn.model.config_keys import model_config, with_one_layer
from fedcore.nn.model.load import DTYPES, held_dtype
from fedcore.nn.model.model_folder import quiet, read_config

TOKENS = 512  # of a pass, about
ENOUGH_S = 0.2  # of passes in all; a first pass that takes longer, in which torch warms up, is the only one
PASSES = 20  # at most
_WORDS = 8  # rows of the embedding table, which the passes do not use


def training_gflops(
    folder: Path,
    *,
    dtype: str,
    max_length: int,
    device: str = CPU,
    precision: str = FLOAT32,
    clock: Callable[[], float] = time.perf_counter,
) -> float:
    """Return the GFLOP/s of the fastest of a few passes of about TOKENS tokens in rows of `max_length`, > 0.

    `folder` holds the model's config.json; `dtype` is that of the frozen base, `device` where it trains and `precision`
    in which. Raises ModelError for a config that cannot be read.
    """
    geometry = geometry_from_config(read_config(folder))
    held = DTYPES[held_dtype(dtype, precision)]
    layer = _one_layer(folder, held).to(device)
    rows = max(1, TOKENS // max_length)
    states = torch.randn(rows, max_length, geometry.hidden, dtype=held, device=device, requires_grad=True)
    flops = base_step_flops(geometry, batch_size=rows, max_length=max_length) / geometry.layers
    seconds: list[float] = []
    read = synchronised(clock, device)
    while not seconds or (len(seconds) < PASSES and sum(seconds) < ENOUGH_S):
        begin = read()
        with autocast(precision, states.device):
            _pass(layer, states)
        seconds.append(read() - begin)
    return flops / max(min(seconds), 1e-9) / 1e9


def _one_layer(folder: Path, dtype: torch.dtype) -> Any:
    with quiet():
        config = model_config(with_one_layer(read_config(folder)))
        config.vocab_size, config.pad_token_id = _WORDS, 0
        kernel = family_of(config.model_type).kernels[0]
        model = AutoModel.from_config(config, dtype=dtype, attn_implementation=kernel)  # type: ignore[no-untyped-call]
    model.requires_grad_(False)
    return model.eval()


def _pass(layer: Any, states: torch.Tensor) -> None:
    layer(inputs_embeds=states).last_hidden_state.sum().backward()
    states.grad = None
