"""How much memory does the loss of a model that writes take? `python -m benchmarks.next_token`.

Hidden states of SmolLM2-135M's shape (576 values, 49,152 words), random, in float32: neither memory nor time depends on
their values. The loss in chunks (fedcore.nn.losses.next_token) against the plain one, which makes all logits: peak of
live tensors beyond the output layer and the states, seconds for loss and gradient, and how far both are apart. All
positions are answered, the worst case. The plain loss is measured at the smaller sizes alone; it grows in proportion.
"""

import time
from collections.abc import Callable

import torch
from torch.nn import functional

from benchmarks.report import Row, emit, parser
from fedcore.nn.losses.next_token import next_token_losses
from fedcore.nn.training.memory import MIB, LiveTensorMeter

HIDDEN, WORDS = 576, 49152
PLAIN_UP_TO = 1024  # positions
GOAL_MB = 800.0  # live for the loss at 16 x 512

Losses = Callable[[torch.Tensor, torch.Tensor, torch.nn.Linear], torch.Tensor]


def main() -> None:
    """Measure every size, print a table, and write the figures on request."""
    arguments = parser("next_token", __doc__).parse_args()
    sizes = ((2, 256), (2, 512)) if arguments.quick else ((2, 256), (2, 512), (16, 512))
    rows = [measured(*size) for size in sizes]
    goals = {"chunked MiB": f"<= {GOAL_MB:.0f} at 16 x 512", "loss and gradient": "within 1e-5 of the plain ones"}
    emit("next_token", rows, arguments, notes=goals)


def measured(rows: int, tokens: int) -> Row:
    """Return the figures of one batch size."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(HIDDEN, WORDS, bias=False).requires_grad_(False)
    states, targets = torch.randn(rows * tokens, HIDDEN), torch.randint(WORDS, (rows * tokens,))
    mine = _run(_chunked, states, targets, layer)
    row: dict[str, object] = {"batch": f"{rows} x {tokens}", "chunked MiB": mine[2], "chunked s": mine[3]}
    if rows * tokens <= PLAIN_UP_TO:
        plain = _run(_plain, states, targets, layer)
        loss, gradient = abs(mine[0] - plain[0]), float((mine[1] - plain[1]).abs().max() / plain[1].abs().max())
        row |= {"plain MiB": plain[2], "plain s": plain[3], "loss apart": loss, "gradient apart": gradient}
    return row


def _run(
    losses: Losses, given: torch.Tensor, targets: torch.Tensor, layer: torch.nn.Linear
) -> tuple[float, torch.Tensor, float, float]:
    """Return loss, gradient in the states, MiB beyond states and layer, and seconds without the meter."""
    standing = (given.nbytes + layer.weight.nbytes) / MIB
    with LiveTensorMeter(layer) as meter:
        states = given.clone().requires_grad_()
        loss = losses(states, targets, layer).mean()
        loss.backward()  # type: ignore[no-untyped-call]
    begin = time.perf_counter()
    (gradient,) = torch.autograd.grad(losses(states, targets, layer).mean(), states)
    seconds = time.perf_counter() - begin
    return float(loss.detach()), gradient, round(meter.peak_mb - standing, 1), round(seconds, 2)


def _chunked(states: torch.Tensor, targets: torch.Tensor, layer: torch.nn.Linear) -> torch.Tensor:
    return next_token_losses(states, targets, layer, words=WORDS)[0][0]


def _plain(states: torch.Tensor, targets: torch.Tensor, layer: torch.nn.Linear) -> torch.Tensor:
    return functional.cross_entropy(layer(states), targets, reduction="none")


if __name__ == "__main__":
    main()
