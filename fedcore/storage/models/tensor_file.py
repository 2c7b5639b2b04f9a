"""Read safetensors checkpoints without torch.

The format: 8 bytes little-endian header length, a JSON header naming dtype, shape and data offsets of each tensor,
then the raw bytes (https://huggingface.co/docs/safetensors). A header is input from outside: every
entry is checked against the file before it is used.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedcore.core.errors import ModelError

MAX_HEADER_BYTES = 100_000_000  # the limit of the reference implementation
INDEX_FILE = "model.safetensors.index.json"
_ITEM_BYTES = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"), 1),
}
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """One tensor's place: bytes [begin, end) of `file`, row-major, little-endian."""

    name: str
    file: Path
    dtype: str  # as in the header: "F32", "BF16", ...
    shape: tuple[int, ...]
    begin: int
    end: int


def tensor_files(folder: Path) -> tuple[Path, ...]:
    """Return the safetensors files of a model folder: those of the shard index, else model.safetensors, else all.

    Raises ModelError, with the remedy, where the folder is missing or has no safetensors file.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such model folder; check [model] path")
    index = folder / INDEX_FILE
    single = folder / "model.safetensors"
    if index.is_file():
        files = tuple(folder / name for name in _shard_names(index))
    else:
        files = (single,) if single.is_file() else tuple(sorted(folder.glob("*.safetensors")))
    for file in files:
        if not file.is_file():
            raise ModelError(f"{index}: names {file.name}, which is not there; copy the whole model folder again")
    if not files:
        pickled = sorted(folder.glob("*.bin")) or sorted(folder.glob("*.pt"))
        remedy = (
            f"found {pickled[0].name}; convert it with transformers: "
            "AutoModel.from_pretrained(folder).save_pretrained(folder, safe_serialization=True)"
            if pickled
            else "expected model.safetensors or its shards"
        )
        raise ModelError(f"{folder}: no safetensors file; {remedy}")
    return files


def tensor_index(folder: Path) -> dict[str, TensorEntry]:
    """Return every tensor of the safetensors files of a model folder, by name.

    Raises ModelError as `tensor_files` does, for a malformed header, and for a name that occurs in two files.
    """
    index: dict[str, TensorEntry] = {}
    for file in tensor_files(folder):
        for entry in read_header(file):
            if entry.name in index:
                raise ModelError(f"{folder}: tensor {entry.name!r} is in {index[entry.name].file.name} and {file.name}")
            index[entry.name] = entry
    return index


def read_header(file: Path) -> tuple[TensorEntry, ...]:
    """Return the entries of one safetensors file; raises ModelError naming the file and what is wrong with it."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
                raise ModelError(f"{file}: not a safetensors file, or cut short; copy it again")
            header = json.loads(stream.read(length))
    except OSError as cause:
        raise ModelError(f"{file}: cannot be read: {cause.strerror or cause}") from None
    except (ValueError, RecursionError):
        raise ModelError(f"{file}: the safetensors header is not valid JSON; copy the file again") from None
    if not isinstance(header, dict):
        raise ModelError(f"{file}: the safetensors header is not a JSON object; copy the file again")
    start = 8 + length
    return tuple(_entry(file, name, fields, start, size) for name, fields in header.items() if name != "__metadata__")


def check_readable(entry: TensorEntry) -> None:
    """Raise ModelError for a tensor that is not F64, F32, F16 or BF16."""
    if entry.dtype not in (*_FLOATS, "BF16"):
        raise ModelError(f"{entry.file}: tensor {entry.name!r} is {entry.dtype}; expected F64, F32, F16 or BF16")


def read_tensor(entry: TensorEntry) -> NDArray[np.float32]:
    """Return the tensor as float32 of its shape (F64, F32, F16 and BF16; ModelError for any other dtype)."""
    check_readable(entry)
    with entry.file.open("rb") as stream:
        stream.seek(entry.begin)
        raw = stream.read(entry.end - entry.begin)
    if len(raw) != entry.end - entry.begin:
        raise ModelError(f"{entry.file}: cut short inside tensor {entry.name!r}; copy the file again")
    if entry.dtype == "BF16":  # the upper half of a float32
        values = (np.frombuffer(raw, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    else:
        values = np.frombuffer(raw, dtype=_FLOATS[entry.dtype]).astype(np.float32)
    return values.reshape(entry.shape)


def _entry(file: Path, name: str, fields: Any, start: int, size: int) -> TensorEntry:
    try:
        dtype, shape = fields["dtype"], [_count(dim) for dim in fields["shape"]]
        begin, end = (_count(offset) for offset in fields["data_offsets"])
        fits = end - begin == math.prod(shape) * _ITEM_BYTES[dtype] and start + end <= size
    except (KeyError, TypeError, ValueError):
        raise ModelError(f"{file}: the header entry of tensor {name!r} is malformed; copy the file again") from None
    if not fits:
        raise ModelError(f"{file}: tensor {name!r} does not fit its dtype, shape and file; copy the file again")
    return TensorEntry(name=name, file=file, dtype=dtype, shape=tuple(shape), begin=start + begin, end=start + end)


def _count(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"expected a count, got {value!r}")
    return value


def _shard_names(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ModelError(f"{index}: expected a JSON object with a weight_map; copy the file again") from None
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise ModelError(f"{index}: {name!r} is not a file name inside the model folder")
    return names
