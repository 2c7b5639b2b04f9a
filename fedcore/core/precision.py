"""Precisions of arithmetic by name: in which a device computes, and what "auto" stands for on its accelerator.

In bfloat16 and float16, products of matrices are computed in 16 bits, forward and backward; factors, head, optimiser
and loss stay float32. float16 has few exponents: gradients are computed from a loss times a factor that is searched for
(fedcore.nn.accelerator.loss_scale).
"""

from fedcore.core.accelerators import CPU
from fedcore.core.errors import ConfigError

AUTO, FLOAT32, BFLOAT16, FLOAT16 = "auto", "float32", "bfloat16", "float16"
PRECISIONS = (FLOAT32, BFLOAT16, FLOAT16)
HALF = (BFLOAT16, FLOAT16)
_NATIVE = {"xpu": BFLOAT16, "mps": FLOAT16}  # by kind of accelerator; cuda: as the card can
_REMEDY = "take auto, or float32"


def resolved(wanted: str, device: str, *, bfloat16: bool) -> str:
    """Return the precision that `training.precision` stands for on a device, a name of PyTorch such as "cuda:1".

    `bfloat16`: whether the device computes in it without emulation. "auto" is float32 on the CPU, as ever, bfloat16 on
    a CUDA card that has it and float16 on one that has not. Raises ConfigError for an unknown name, and for bfloat16 on
    an accelerator without it.
    """
    kind = device.partition(":")[0]
    if wanted == AUTO:
        return (BFLOAT16 if bfloat16 else FLOAT16) if kind == "cuda" else _NATIVE.get(kind, FLOAT32)
    if wanted not in PRECISIONS:
        raise ConfigError(f"training.precision: expected auto or one of {', '.join(PRECISIONS)}; got {wanted!r}")
    if wanted == BFLOAT16 and device != CPU and not bfloat16:
        raise ConfigError(f"training.precision: {device} has no bfloat16; {_REMEDY}, or float16")
    return wanted
