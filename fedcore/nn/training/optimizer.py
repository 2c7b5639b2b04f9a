"""AdamW over the trainable parameters, and its state in and out as portable moments.

Source: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019, arXiv 1711.05101.
"""

from collections.abc import Mapping

import numpy as np
import torch

from fedcore.core.errors import ModelError
from fedcore.nn.training.moments import BETAS, Moment, Moments

Parameters = Mapping[str, torch.nn.Parameter]


def make_optimizer(parameters: Parameters, *, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """Return AdamW over `parameters` (canonical name -> parameter)."""
    # the fused step allocates no temporaries of the parameters' size
    return torch.optim.AdamW(
        list(parameters.values()), lr=learning_rate, weight_decay=weight_decay, betas=BETAS, fused=True
    )


def moments(optimizer: torch.optim.Optimizer, parameters: Parameters) -> dict[str, Moment]:
    """Return a copy of the state of every parameter that took a step, by canonical name."""
    states: dict[str, Moment] = {}
    for name, parameter in parameters.items():
        state = optimizer.state.get(parameter)
        if state:
            states[name] = Moment(
                first=_array(state["exp_avg"]), second=_array(state["exp_avg_sq"]), step=int(state["step"])
            )
    return states


def restore(optimizer: torch.optim.Optimizer, parameters: Parameters, saved: Moments) -> None:
    """Put `saved` moments back; parameters without one start afresh, moments without a parameter are ignored.

    Raises ModelError where a shape differs: moments follow surgery and rank changes through `moments.follow`.
    """
    for name, parameter in parameters.items():
        if name not in saved:
            optimizer.state.pop(parameter, None)
            continue
        moment = saved[name]
        if moment.first.shape != tuple(parameter.shape):
            raise ModelError(
                f"optimiser state of {name} has shape {moment.first.shape}, the parameter {tuple(parameter.shape)};"
                " move it with moments.follow or start without it"
            )
        optimizer.state[parameter] = {
            "step": torch.tensor(float(moment.step), device=parameter.device),
            "exp_avg": torch.from_numpy(moment.first.copy()).to(parameter.device),
            "exp_avg_sq": torch.from_numpy(moment.second.copy()).to(parameter.device),
        }


def _array(tensor: torch.Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return tensor.detach().to("cpu", torch.float32, copy=True).numpy()
