"""The global adapter's durable copy: one file per round, so that closing a round costs one sync of one file.

A server optimiser with a velocity has a second file per round for it, beside the adapter's.

The rank-block blobs that devices fetch are derived from this file and need not survive a power cut: equal tensors give
equal blobs. The coordinator maps this file to read the adapter, so between rounds it keeps none of it in memory.
"""

import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedcore.core.codec.chain import decode, encode_chunks
from fedcore.core.errors import RunError
from fedcore.core.model.adapter import Tensors
from fedcore.server.aggregate.mapped_tensors import MappedTensors, map_file
from fedcore.storage.atomic import Buffer, write_atomic

GLOBALS_KEPT = 2  # files of each kind that stay
ADAPTER, VELOCITY = "round", "velocity"  # kinds of global, as their files' names begin


def write_global(folder: Path, tensors: Tensors, round_index: int, *, kind: str = ADAPTER) -> str:
    """Write the adapter (or velocity) after a round durably and return the SHA-256 of its file in hexadecimal."""
    digest = hashlib.sha256()
    folder.mkdir(exist_ok=True)
    write_atomic(_path(folder, round_index, kind), _hashed(encode_chunks(tensors, "identity"), digest), durable=True)
    return digest.hexdigest()


def read_global(folder: Path, round_index: int, digest: str, *, kind: str = ADAPTER) -> dict[str, NDArray[np.float32]]:
    """Return the adapter after a round; raises RunError if its file is missing or differs from the committed one."""
    path = _path(folder, round_index, kind)
    try:
        data = path.read_bytes()
    except OSError as cause:
        raise RunError(f"cannot read the global adapter {path}: {cause}; restore the run folder from a copy") from None
    actual = hashlib.sha256(data).hexdigest()
    if actual != digest:
        raise RunError(f"{path} is damaged: expected sha256 {digest[:16]}, found {actual[:16]}; restore it from a copy")
    tensors = decode(data)
    return {name: np.array(tensors[name]) for name in tensors}


def map_global(folder: Path, round_index: int, *, kind: str = ADAPTER) -> MappedTensors:
    """Return the adapter after a round as views of its file. This process must have written or verified the file."""
    data = map_file(_path(folder, round_index, kind))
    return MappedTensors(decode(data), data)


def drop_older(folder: Path, round_index: int) -> None:
    """Delete all but the last globals up to `round_index`, and the globals of rounds that were never committed."""
    for kind in (ADAPTER, VELOCITY):
        paths = sorted(folder.glob(f"{kind}-*.safetensors"))
        committed = [path for path in paths if path <= _path(folder, round_index, kind)]
        for path in set(paths) - set(committed[-GLOBALS_KEPT:]):
            path.unlink(missing_ok=True)


def _hashed(chunks: Iterable[Buffer], digest: "hashlib._Hash") -> Iterator[Buffer]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk


def _path(folder: Path, round_index: int, kind: str) -> Path:
    return folder / f"{kind}-{round_index:08d}.safetensors"
