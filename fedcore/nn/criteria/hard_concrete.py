"""The hard-concrete distribution: differentiable gates in [0, 1] that are exactly 0 or 1 with positive probability.

    u ~ U(0, 1),  s = sigmoid((log u - log(1 - u) + log_alpha) / BETA),  z = clip(s (ZETA - GAMMA) + GAMMA, 0, 1)
    openness = P(z > 0) = sigmoid(log_alpha - BETA log(-GAMMA / ZETA))

Source: Louizos et al., "Learning sparse neural networks through L0 regularization", 2018, arXiv 1712.01312, eqs. 10 to
12 and the constants of its section 4.
"""

import math

import torch

BETA, GAMMA, ZETA = 2 / 3, -0.1, 1.1

_EDGE = 1e-6  # how near to 0 and 1 a draw may come
_SHIFT = BETA * math.log(-GAMMA / ZETA)
_FAR, _HALVINGS = 40.0, 30


def sample(log_alpha: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Return one gate per entry of `log_alpha`; gradients flow to it where a gate is neither 0 nor 1."""
    uniform = torch.rand(log_alpha.shape, generator=draw).to(log_alpha.device).clamp(_EDGE, 1 - _EDGE)
    soft = torch.sigmoid((torch.logit(uniform) + log_alpha) / BETA)
    return (soft * (ZETA - GAMMA) + GAMMA).clamp(0.0, 1.0)


def openness(log_alpha: torch.Tensor) -> torch.Tensor:
    """Return the probability that each gate is not 0."""
    return torch.sigmoid(log_alpha - _SHIFT)


def shifted_to(log_alpha: torch.Tensor, mean_openness: float) -> torch.Tensor:
    """Return `log_alpha` plus the one constant that brings the mean openness to `mean_openness` in (0, 1)."""
    low, high = -_FAR - float(log_alpha.max()), _FAR - float(log_alpha.min())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if float(openness(log_alpha + middle).mean()) < mean_openness:
            low = middle
        else:
            high = middle
    return log_alpha + (low + high) / 2
