"""The grammar of codec names: stages joined by '+', each at most once, in this order.

ef          error feedback: the codec's loss is added to the next update (fedcore.core.codec.feedback)
topk:SHARE  keep the largest share of each tensor's values, in (0, 1]; 0.1 where left out
FORMAT      identity, bf16, fp16, int8:BLOCK or int4:BLOCK values per scale (128 and 64); identity where left out
zstd        entropy coding of the result, lossless
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fedcore.core.codec.cast import CASTS
from fedcore.core.codec.formats import Format
from fedcore.core.codec.quantize import BLOCK_RANGE, BLOCKS, Quantizer
from fedcore.core.errors import ConfigError

FEEDBACK, SPARSE, ENTROPY, DELTA = "ef", "topk", "zstd", "delta"
SHARE = 0.1
_NUMBER = re.compile(r"\d{1,9}(\.\d{1,9})?")


def _cast(word: str) -> Callable[[str], Format]:
    def make(parameter: str) -> Format:
        if parameter:
            raise ConfigError(f"codec: {word} takes no parameter, got {parameter!r}")
        return CASTS[word]

    return make


def _quantizer(bits: int) -> Callable[[str], Format]:
    def make(parameter: str) -> Format:
        block = parameter or str(BLOCKS[bits])
        low, high = BLOCK_RANGE
        if not re.fullmatch(r"\d{1,9}", block) or not low <= int(block) <= high:
            raise ConfigError(f"codec: int{bits}:BLOCK needs a number of values in [{low}, {high}], got {parameter!r}")
        return Quantizer(bits=bits, block=int(block))

    return make


FORMATS: Mapping[str, Callable[[str], Format]] = {
    "identity": _cast("identity"),
    "bf16": _cast("bf16"),
    "fp16": _cast("fp16"),
    "int8": _quantizer(8),
    "int4": _quantizer(4),
}
PARTS = (FEEDBACK, SPARSE, *FORMATS, ENTROPY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """A parsed codec; `share` is None where every value is kept."""

    feedback: bool
    share: float | None
    format: Format
    compress: bool

    @property
    def lossless(self) -> bool:
        """Whether every bit comes back."""
        return self.share is None and self.format.lossless


def parse_chain(name: str) -> Chain:
    """Return the chain that a codec's name describes; raises ConfigError, listing the parts, for any other text."""
    words = name.split("+")
    feedback = _take(words, FEEDBACK) is not None
    share = _take(words, SPARSE)
    word = next((name for name in FORMATS if words and words[0].partition(":")[0] == name), None)
    parameter = None if word is None else _take(words, word)
    compress = _take(words, ENTROPY) is not None
    if words or (share, word, compress) == (None, None, False):
        raise ConfigError(_misfit(name))
    chain = Chain(
        feedback=feedback,
        share=None if share is None else _share(share),
        format=FORMATS[word or "identity"](parameter or ""),
        compress=compress,
    )
    if chain.feedback and chain.lossless:
        raise ConfigError(f"codec {name!r}: {FEEDBACK} feeds back what a codec lost, and this one loses nothing")
    return chain


def parse_format(word: str) -> Format:
    """Return the format with this `word`; raises ConfigError for any other word."""
    kind, _, parameter = word.partition(":")
    if kind not in FORMATS:
        raise ConfigError(f"codec: expected one of {', '.join(FORMATS)}, got {word[:40]!r}")
    return FORMATS[kind](parameter)


def parts_of(name: str) -> frozenset[str]:
    """Return the parts of a codec without their parameters; raises ConfigError where `name` is no codec."""
    parse_chain(name)
    return frozenset(word.partition(":")[0] for word in name.split("+"))


def _take(words: list[str], stage: str) -> str | None:
    """Take `stage` off the front of `words` and return its parameter, '' without one, None where it is not there."""
    if not words:
        return None
    kind, colon, parameter = words[0].partition(":")
    if kind != stage or (colon and (not parameter or stage in (FEEDBACK, ENTROPY))):
        return None
    del words[0]
    return parameter


def _share(parameter: str) -> float:
    share = float(parameter) if _NUMBER.fullmatch(parameter) else (0.0 if parameter else SHARE)
    if not 0 < share <= 1:
        raise ConfigError(
            f"codec: {SPARSE}:SHARE needs a share in (0, 1], for example {SPARSE}:0.05, got {parameter!r}"
        )
    return share


def _misfit(name: str) -> str:
    if DELTA in name.split("+"):
        remedy = 'for what is handed out, set training.downlink = "delta"'
        return f"codec {name[:80]!r}: expected none of {DELTA}, for updates are increments already; {remedy}"
    order = f"{FEEDBACK}, {SPARSE}:SHARE, a number format, {ENTROPY}"
    return f"codec: expected parts joined by '+', in the order {order}, out of {', '.join(PARTS)}; got {name[:80]!r}"
