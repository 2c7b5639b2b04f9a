"""Tensors that lie in a mapped file: what was read of it does not stay in this process's memory."""

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class MappedTensors(Mapping[str, NDArray[np.float32]]):
    """`tensors` of `data`, of which one stays resident at a time: the pages of the others are the page cache's alone.

    A cohort's updates wait mapped from verification until they are folded, and so does the global adapter; without
    this they would all count as the coordinator's memory. Arrays handed out earlier stay valid: what is touched again
    is mapped again.
    """

    def __init__(self, tensors: Mapping[str, NDArray[np.float32]], data: memoryview) -> None:
        """Read `tensors`, which were decoded from `data`; bytes that are no mapped file are left alone."""
        self._tensors = tensors
        self._data = data

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """Return a tensor, having released the pages read before."""
        self.release_pages()
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def release_pages(self) -> None:
        """Release the pages read so far; call it once everything wanted has been read."""
        release_pages(self._data)


def map_file(path: Path) -> memoryview:
    """Return a file's bytes, mapped: they are read when they are touched. Raises ValueError for an empty file."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def release_pages(data: memoryview) -> None:
    """Release the pages read of `data`, where that is a mapped file; what is touched again is mapped again."""
    if isinstance(data.obj, mmap.mmap):
        data.obj.madvise(mmap.MADV_DONTNEED)
