"""A frozen base in 8 or 4 bits: the prunable linear layers of a cut model with packed weights.

Cut first, then quantise: a packed weight is bytes, of which no rows can be taken. Another keep-set loads the model
anew. Adapters go around packed layers as around others.

int8 is torch alone. nf4 uses the kernels of bitsandbytes, but not its layers: on CPUs these repack weights for
inference, which fails for numbers of rows that pruning leaves, and its kernel is wrong (0.50.2) for rows of a multiple
of 16 weights that is none of 64. So a weight is packed as one row, filled up to whole blocks.
"""

import importlib
import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from fedcore.core.boundary import is_fault, reason
from fedcore.core.errors import ModelError
from fedcore.core.model.quantization import BLOCK, FORMS, NONE, PACKED
from fedcore.nn.model.classifier import Classifier

_KERNELS = ("cpu", "cuda", "xpu")  # of bitsandbytes
_LEVELS = 127.0  # of int8, on either side of zero
_TRIAL = 64  # rows and columns of the layer that is tried


def check_quantizable(form: str, device: str = "cpu") -> None:
    """Raise ModelError, with the remedy, unless a layer in this form trains on `device`. NONE always does."""
    if form == NONE:
        return
    if form not in PACKED:
        raise ModelError(f"model.quantize: expected one of {', '.join(FORMS)}; got {form!r}")
    kind = torch.device(device).type
    if form == "nf4" and kind not in _KERNELS:
        raise ModelError(
            f"quantize 'nf4': no kernels for {kind}, expected one of {', '.join(_KERNELS)}; use quantize = \"int8\" or "
            '"none" for this class, or --device cpu'
        )
    try:
        layer = PackedLinear(nn.Linear(_TRIAL, _TRIAL, device=device), form)
        inputs = torch.ones(1, _TRIAL, device=device, requires_grad=True)
        layer(inputs).sum().backward()
    except BaseException as cause:
        if isinstance(cause, ModelError) or not is_fault(cause):
            raise
        raise ModelError(
            f'quantize {form!r} cannot compute on {device}: {reason(cause)}; use quantize = "none" for this class, or '
            f"another --device"
        ) from cause


def quantize(classifier: Classifier, form: str) -> None:
    """Pack the prunable layers of a cut model without adapters, in place, one after the other; NONE does nothing.

    Raises ModelError, with the remedy, for an unknown form, where bitsandbytes is missing or has no kernel, and where
    adapters are attached or weights are packed already.
    """
    check_quantizable(form, str(classifier.device))
    if form == NONE:
        return
    for path, linear in list(_prunable(classifier)):
        if type(linear) is not nn.Linear:
            raise ModelError(f"{path}: expected a plain linear layer, got {type(linear).__name__}; load the model anew")
        parent, _, name = path.rpartition(".")
        setattr(classifier.backbone.get_submodule(parent), name, PackedLinear(linear, form))


def round_weights(classifier: Classifier, form: str) -> None:
    """Round the prunable weights of a cut model without adapters as `quantize` does, and keep them as floats.

    The model computes what the packed one computes, up to the order of sums. Weights are new: a model that shares them
    stays as it is.
    """
    check_quantizable(form, str(classifier.device))
    for _, linear in list(_prunable(classifier)) if form != NONE else ():
        linear.weight = nn.Parameter(PackedLinear(linear, form).unpacked(), requires_grad=False)


class PackedLinear(nn.Linear):
    """A frozen linear layer that holds its weight packed and unpacks it for every product, there and back."""

    def __init__(self, linear: nn.Linear, form: str) -> None:
        super().__init__(linear.in_features, linear.out_features, bias=False, device="meta")
        weight = linear.weight.detach()
        self.scales: Any  # (out, 1) of int8, the library's own of nf4
        packed, self.scales = _int8(weight) if form == "int8" else _nf4(weight)
        self.weight = nn.Parameter(packed, requires_grad=False)
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach(), requires_grad=False)
        self.dtype = weight.dtype

    def unpacked(self) -> torch.Tensor:
        """Return the weight (out, in) in a new tensor, in the dtype that it had."""
        packed = self.weight.detach()
        if packed.dtype is torch.int8:
            rounded: torch.Tensor = packed.to(self.dtype) * self.scales
            return rounded
        flat: torch.Tensor = _library().functional.dequantize_4bit(packed, self.scales)
        count = self.out_features * self.in_features
        return flat.flatten()[:count].view(self.out_features, self.in_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return x W^T + bias, (..., out)."""
        output: torch.Tensor = _PackedProduct.apply(x, self)  # type: ignore[no-untyped-call]
        return output if self.bias is None else output + self.bias


class _PackedProduct(torch.autograd.Function):
    """Keeps no unpacked weight between the passes."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: PackedLinear) -> torch.Tensor:
        ctx.layer = layer
        return nn.functional.linear(x, layer.unpacked().to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, None]:
        if not ctx.needs_input_grad[0]:
            return None, None
        return gradients[0] @ ctx.layer.unpacked().to(gradients[0].dtype), None


def is_packed(layer: nn.Module) -> bool:
    """Whether a linear layer's weight is packed bytes, by this module or another library."""
    weight = layer.weight
    return isinstance(weight, torch.Tensor) and not weight.dtype.is_floating_point


def whole(layer: Any, action: str) -> Any:
    """Return a linear layer whose weight can be read; raise ModelError, naming the `action`, where it is packed."""
    if is_packed(layer):
        raise ModelError(
            f"cannot {action} a quantised layer: its weight is packed as {tuple(layer.weight.shape)} bytes; load the "
            "model anew, cut or merge it, and quantise it afterwards"
        )
    return layer


def dense_weight(layer: nn.Module) -> torch.Tensor:
    """Return the weight (out, in) of a linear layer, unpacked in a new tensor where it is packed.

    Raises ModelError for bytes that are not packed here.
    """
    if isinstance(layer, PackedLinear):
        return layer.unpacked()
    weight: torch.Tensor = whole(layer, "read the weights of").weight
    return weight


def _prunable(classifier: Classifier) -> Iterator[tuple[str, nn.Linear]]:
    for layer, module in itertools.product(classifier.layers, classifier.geometry.modules):
        linear: Any = classifier.linear(layer, module)
        yield classifier.path(layer, module), linear


def _int8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a weight (out, in) in 255 levels, and a row's scale, (out, 1), in the weight's dtype."""
    largest = weight.abs().amax(dim=1, keepdim=True).float().clamp(min=torch.finfo(torch.float32).tiny)
    scales = (largest / _LEVELS).to(weight.dtype)
    levels = (weight.float() / scales.float()).round().clamp(-_LEVELS, _LEVELS)
    return levels.to(torch.int8), scales


def _nf4(weight: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """Return a weight in bytes of two values each, and the library's scales of its blocks."""
    flat = weight.reshape(1, -1)
    filled = nn.functional.pad(flat, (0, -flat.shape[1] % BLOCK))
    library = _library().functional
    packed, scales = library.quantize_4bit(filled.contiguous(), quant_type="nf4", compress_statistics=True)
    return packed, scales


def _library() -> Any:
    try:
        with _silent():
            return importlib.import_module("bitsandbytes")
    except ImportError:
        raise ModelError(
            'quantize "nf4" needs bitsandbytes: pip install "fedcore[quantize]", or set quantize = "int8" or "none"'
        ) from None


@contextmanager
def _silent() -> Iterator[None]:
    """Keep bitsandbytes from telling which faster kernels are not installed."""
    logger = logging.getLogger("bitsandbytes")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
