"""What lies in a model folder: config, safetensors, tokenizer, each read with errors that name the remedy."""

import importlib.util
import json
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoTokenizer
from transformers.utils import logging as hf_logging

from fedcore.core.boundary import is_fault, reason
from fedcore.core.errors import ModelError
from fedcore.core.model.support import unsupported
from fedcore.nn.model.config_keys import tokenizer_config

_INDEX = "model.safetensors.index.json"
_NO_WORDS = "it knows no word beside its special tokens; the file of its vocabulary is missing, or of another kind"
_PIECES = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")  # tokenizers that are no tokenizer.json


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
    if (why := unsupported(config)) is not None:
        raise ModelError(f"{path}: {why}")
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

    A tokenizer without a padding token pads with its end-of-text token, and one whose padding token is beyond the
    model's vocabulary with a token within it: padding is masked, whatever token it is. Raises ModelError where it has
    neither, or where the files are missing or malformed, or need a package that is not here.
    """
    config = _described(folder)
    chosen_by = tokenizer_config(config, str(folder)) if config else None
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, config=chosen_by, local_files_only=True, trust_remote_code=False
            )
    except BaseException as cause:  # the tokenizers library raises bare Exception for malformed files, or panics
        if not is_fault(cause):
            raise
        raise ModelError(
            f"{folder}: no usable tokenizer (expected tokenizer.json): {_why_not(folder, reason(cause))}"
        ) from cause
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):  # transformers makes one up where it finds no words
        raise ModelError(f"{folder}: no usable tokenizer (expected tokenizer.json): {_why_not(folder, _NO_WORDS)}")
    if tokenizer.pad_token_id is None and tokenizer.eos_token_id is None:
        raise ModelError(f"{folder}: the tokenizer has neither a padding nor an end token; add one and save it")
    size = config.get("vocab_size")
    vocabulary = range(size if isinstance(size, int) else len(tokenizer))
    if tokenizer.pad_token_id not in vocabulary:
        tokenizer.pad_token = _pad_within(tokenizer, vocabulary, config.get("pad_token_id"))
    return tokenizer


def _pad_within(tokenizer: Any, vocabulary: range, of_config: Any) -> str:
    """Return a token to pad with, of an id in `vocabulary`: the end of a text, or another that ends none.

    `of_config` is the id that the model pads with by its config, where it says: a RoBERTa's positions depend on it.
    """
    first = [tokenizer.eos_token_id] if tokenizer.pad_token_id is None else [of_config, tokenizer.eos_token_id]
    others = (getattr(tokenizer, f"{name}_token_id") for name in ("bos", "sep", "cls", "unk"))
    for token_id in (*first, *others):
        if isinstance(token_id, int) and token_id in vocabulary and tokenizer.convert_ids_to_tokens(token_id):
            return str(tokenizer.convert_ids_to_tokens(token_id))
    return str(tokenizer.convert_ids_to_tokens(0))


def _described(folder: Path) -> dict[str, Any]:
    """The folder's config.json; empty where there is none that can be read."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) else {}


def _why_not(folder: Path, why: str) -> str:
    """Why a tokenizer cannot be loaded: a package for its kind of file that is not here, else `why`."""
    pieces = next((folder / name for name in _PIECES if (folder / name).is_file()), None)
    if pieces is None or (folder / "tokenizer.json").is_file():
        return why
    package = "tiktoken" if _is_tiktoken(pieces) else "sentencepiece"
    if importlib.util.find_spec(package) is None:
        return (
            f"{pieces.name} is of the package {package}, which is not installed: pip install {package}, or save the "
            "tokenizer once where it is, with transformers' save_pretrained, which writes tokenizer.json"
        )
    return f"{pieces.name}: {why}"


def _is_tiktoken(file: Path) -> bool:
    """Whether a file of pieces is tiktoken's: lines of base64 and a rank; sentencepiece's is a protobuf message."""
    with file.open("rb") as stream:
        first = stream.readline(1024).split()
    return len(first) == 2 and first[1].isdigit() and re.fullmatch(rb"[A-Za-z0-9+/=]+", first[0]) is not None


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


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as tensors:
            yield tensors
    except (SafetensorError, OSError) as cause:
        raise ModelError(f"{file}: not a readable safetensors file: {reason(cause)}; fetch it again") from None
