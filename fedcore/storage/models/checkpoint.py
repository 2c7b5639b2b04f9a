"""A base model as files: its fingerprint, the files that a device needs, its config.

Two folders have one fingerprint when they hold the same backbone (same names, dtypes, shapes and bytes), the same
architecture and the same tokenizer files. The fingerprint leaves out task heads, poolers and language-model heads:
the federation trains and sends the head, and a backbone must match the classifier that was saved from it. It also
leaves out buffers that the model computes (position ids, rotary frequencies), and config keys that do not change what
the backbone computes.
"""

import hashlib
import json
import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedcore.core.errors import ModelError
from fedcore.core.model.families import FAMILIES
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.storage.file_hash import file_sha256
from fedcore.storage.models.tensor_file import INDEX_FILE, TensorEntry, tensor_files, tensor_index

# Prefixes of the backbone inside a model that has a head on top of it.
_PREFIXES = ("bert.", "roberta.", "model.", "base_model.", "backbone.", "transformer.", "gpt_neox.")
_GPT = ("h.", "wte.", "wpe.", "ln_f.", "embed_in.", "final_layer_norm.")
_BACKBONE = ("embeddings.", "encoder.layer.", "embed_tokens.", "layers.", "norm.", *_GPT)
_BUFFERS = (".position_ids", ".token_type_ids", ".inv_freq", ".masked_bias", ".attn.bias", ".attention.bias")

# Config keys that decide what a backbone computes. `_canonical_config` reads rotary settings separately: transformers
# has changed their spelling over time.
_CONFIG_KEYS = (
    "attention_bias",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "layer_norm_eps",
    "max_position_embeddings",
    "mlp_bias",
    "model_type",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pad_token_id",
    "rms_norm_eps",
    "sliding_window",
    "type_vocab_size",
    "vocab_size",
)
_TOKENIZER_FAST = ("tokenizer.json",)
_TOKENIZER_SLOW = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spiece.model",
    "tokenizer.model",
    "sentencepiece.bpe.model",
)
_TOKENIZER_EXTRA = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFile:
    """One file of a model folder: its name in the folder, size in bytes and sha256 hex."""

    name: str
    size: int
    sha256: str


def read_config(folder: Path) -> dict[str, Any]:
    """Return the model folder's config.json; raises ModelError when it is missing or malformed."""
    path = folder / "config.json"
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder; check [model] path")
    try:
        config = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelError(f"{path} is missing; expected a folder saved by transformers' save_pretrained") from None
    except (OSError, ValueError, RecursionError) as cause:
        raise ModelError(f"{path}: not readable as JSON: {cause}") from None
    if not isinstance(config, dict):
        raise ModelError(f"{path}: expected a JSON object, got {type(config).__name__}")
    return config


def fingerprint(folder: Path) -> Fingerprint:
    """Return the identity of the base model in `folder`, reading each file once.

    Raises ModelError for a missing or malformed config, checkpoint or tokenizer, and for a checkpoint without a
    backbone of a known family.
    """
    config = read_config(folder)
    return Fingerprint(
        tensors=_tensors_digest(folder),
        config=_digest(_canonical_config(config)),
        tokenizer=_digest([[file.name, file_sha256(file)] for file in _tokenizer_files(folder)]),
    )


def model_files(folder: Path) -> tuple[ModelFile, ...]:
    """Return the files of a model folder that a device needs, by name: config, tokenizer, safetensors, shard index.

    Raises ModelError where the config, the tokenizer or the safetensors are missing.
    """
    read_config(folder)
    files = {folder / "config.json", *tensor_files(folder), *_tokenizer_files(folder)}
    files |= {folder / name for name in (INDEX_FILE, *_TOKENIZER_SLOW, *_TOKENIZER_EXTRA) if (folder / name).is_file()}
    return tuple(
        ModelFile(name=file.name, size=file.stat().st_size, sha256=file_sha256(file)) for file in sorted(files)
    )


def backbone_name(name: str) -> str | None:
    """Return a checkpoint tensor's name inside the backbone, or None for heads, poolers and computed buffers."""
    stripped = name
    while prefix := next((candidate for candidate in _PREFIXES if stripped.startswith(candidate)), None):
        stripped = stripped.removeprefix(prefix)
    if not stripped.startswith(_BACKBONE) or f".{stripped}".endswith(_BUFFERS):
        return None
    return stripped


def _tensors_digest(folder: Path) -> str:
    named: dict[str, TensorEntry] = {}
    for entry in tensor_index(folder).values():
        name = backbone_name(entry.name)
        if name is not None and named.setdefault(name, entry) is not entry:
            raise ModelError(f"{folder}: {entry.name!r} and {named[name].name!r} are the same backbone tensor")
    if not named:
        raise ModelError(f"{folder}: no backbone tensor found; expected one of a type among {', '.join(FAMILIES)}")
    hashes = {file: _entry_hashes(file, list(named.values())) for file in {entry.file for entry in named.values()}}
    return _digest(
        [
            [name, entry.dtype, list(entry.shape), hashes[entry.file][entry.name]]
            for name, entry in sorted(named.items())
        ]
    )


def _entry_hashes(file: Path, entries: list[TensorEntry]) -> dict[str, str]:
    """Hash the raw bytes of the entries that lie in `file`, mapped rather than read: a shard has gigabytes."""
    with (
        file.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as view,
    ):
        in_file = [entry for entry in entries if entry.file == file]
        return {entry.name: hashlib.sha256(view[entry.begin : entry.end]).hexdigest() for entry in in_file}


def _canonical_config(config: dict[str, Any]) -> dict[str, Any]:
    family = FAMILIES.get(str(config.get("model_type")))
    keys = (*_CONFIG_KEYS, *(family.identity if family else ()))
    set_keys = {key: config[key] for key in keys if config.get(key) is not None and config[key] is not False}
    rotary = {**(config.get("rope_scaling") or {}), **(config.get("rope_parameters") or {})}
    rotary.setdefault("rope_theta", config.get("rope_theta"))
    rotary["rope_type"] = rotary.pop("type", None) or rotary.get("rope_type") or "default"
    return {**set_keys, "rotary": {key: value for key, value in rotary.items() if value is not None}}


def _tokenizer_files(folder: Path) -> list[Path]:
    for names in (_TOKENIZER_FAST, _TOKENIZER_SLOW):
        files = [folder / name for name in names if (folder / name).is_file()]
        if files:
            return files
    expected = ", ".join((*_TOKENIZER_FAST, *_TOKENIZER_SLOW))
    raise ModelError(f"{folder}: no tokenizer file; expected one of {expected}")


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
