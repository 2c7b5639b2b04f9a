"""What lies in a model folder: config, safetensors, tokenizer, each read with errors that name the remedy."""

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer
from transformers.utils import logging as hf_logging

from fedcore.core.errors import ModelError

_INDEX = "model.safetensors.index.json"


def read_config(folder: Path) -> dict[str, Any]:
    """Return `config.json` of a model folder; raises ModelError where it is missing, malformed or quantized."""
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder; check [model] path")
    path = folder / "config.json"
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; expected a folder saved by transformers' save_pretrained") from None
    except (OSError, ValueError, RecursionError) as cause:
        raise ModelError(f"{path}: not readable as JSON: {cause}") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path}: expected a JSON object, got {type(config).__name__}")
    if config.get("quantization_config"):
        raise ModelError(f"{path}: the weights are quantized; load them with transformers, dequantize, and save again")
    if config.get("position_embedding_type", "absolute") != "absolute":
        kind = config["position_embedding_type"]
        raise ModelError(f"{path}: position_embedding_type {kind!r} is not supported; expected 'absolute'")
    return config


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files of a model folder; raises ModelError where there are none."""
    single, index = folder / "model.safetensors", folder / _INDEX
    if single.is_file():
        return (single,)
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as cause:
            raise ModelError(f"{index}: malformed shard index: {cause!r}") from None
        missing = [name for name in names if Path(name).name != name or not (folder / name).is_file()]
        if missing:
            raise ModelError(f"{folder}: the shard index names {missing[0]!r}, which is not in the folder")
        return tuple(folder / name for name in names)
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise ModelError(
            f"{folder}: only pickled weights (.bin) found; convert them once with transformers: from_pretrained, then"
            " save_pretrained writes model.safetensors"
        )
    raise ModelError(f"{folder}: no weights found; expected model.safetensors")


def tensor_shapes(files: Sequence[Path]) -> dict[str, tuple[int, ...]]:
    """Return the shape of every tensor by name, without reading the tensors; raises ModelError on a broken file."""
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        with _opened(file) as tensors:
            shapes |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    return shapes


def read_tensors(files: Sequence[Path], names: Collection[str]) -> dict[str, torch.Tensor]:
    """Return those tensors of `names` that the files hold; raises ModelError on a broken file."""
    found: dict[str, torch.Tensor] = {}
    for file in files:
        with _opened(file) as tensors:
            found |= {name: tensors.get_tensor(name) for name in tensors.keys() if name in names}  # noqa: SIM118
    return found


def load_tokenizer(folder: Path) -> Any:
    """Return the tokenizer in `folder` (transformers' PreTrainedTokenizerBase), always able to pad.

    A tokenizer without a padding token pads with its end-of-text token. Raises ModelError where it has neither, or
    where the files are missing or malformed.
    """
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as cause:  # the tokenizers library raises bare Exception for malformed files
        raise ModelError(f"{folder}: no usable tokenizer (expected tokenizer.json): {first_line(cause)}") from None
    if tokenizer.pad_token_id is None:
        if tokenizer.eos_token_id is None:
            raise ModelError(f"{folder}: the tokenizer has neither a padding nor an end token; add one and save it")
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from printing reports and progress bars while the block runs."""
    level, bar = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    hf_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    hf_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        hf_logging.set_verbosity(level)
        if bar:
            hf_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


def first_line(cause: BaseException) -> str:
    """Return the first line of an error, short enough for a message."""
    return (str(cause).strip().splitlines() or [type(cause).__name__])[0][:200]


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as tensors:
            yield tensors
    except (SafetensorError, OSError) as cause:
        raise ModelError(f"{file}: not a readable safetensors file: {first_line(cause)}; fetch it again") from None
