"""The forms in which a device may hold the frozen weights of the prunable layers, and the bytes that they take.

Embeddings, norms, biases and heads stay as they are. What travels, the fingerprint and the exports are those of the
unquantised model: only a device's copy of the base is rounded.

Source of nf4 and its double quantisation: Dettmers et al., "QLoRA", 2023, arXiv 2305.14314; of int8 by rows: Dettmers
et al., "LLM.int8()", 2022, arXiv 2208.07339.
"""

from collections.abc import Callable, Mapping

from fedcore.core.errors import ConfigError

NONE = "none"

BLOCK = 64  # weights that share a scale
_OUTER_BLOCK = 256  # scales that share one
_FLOAT = 4


def _int8(out: int, into: int) -> float:
    return out * into + out * _FLOAT  # a scale for every row


def _nf4(out: int, into: int) -> float:
    scales = out * into / BLOCK
    return out * into / 2 + scales + scales / _OUTER_BLOCK * _FLOAT


PACKED: Mapping[str, Callable[[int, int], float]] = {"int8": _int8, "nf4": _nf4}
FORMS = (NONE, *PACKED)  # of `model.quantize`


def weight_bytes(form: str, shape: tuple[int, int], dtype_bytes: int) -> float:
    """Return the bytes of a weight (out, in) in a form; raises ConfigError for an unknown one, with those there are."""
    if form == NONE:
        return float(shape[0] * shape[1] * dtype_bytes)
    if form not in PACKED:
        raise ConfigError(f"model.quantize: expected one of {', '.join(FORMS)}; got {form!r}")
    return PACKED[form](*shape)
