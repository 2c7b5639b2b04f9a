"""Tensors in a mapped file: the pages that a process reads of it do not stay in its memory."""

import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class MappedTensors(Mapping[str, NDArray[np.float32]]):
    """`tensors` of `data`, one of them resident at a time: the pages of the others are in the page cache alone.

    A cohort's updates wait mapped from verification until they are folded, and so does the global adapter; without
    this class they would all count as the coordinator's memory. Arrays from earlier calls stay valid: the kernel maps a
    page again when it is touched again.
    """

    def __init__(self, tensors: Mapping[str, NDArray[np.float32]], data: memoryview) -> None:
        """Wrap `tensors`, which were decoded from `data`; if `data` is no mapped file, releasing pages does nothing."""
        self._tensors = tensors
        self._data = data

    def __getitem__(self, name: str) -> NDArray[np.float32]:
        """Release the pages read before, then return a tensor."""
        self.release_pages()
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def release_pages(self) -> None:
        """Release the pages read so far; call it after the last read."""
        release_pages(self._data)


def map_file(path: Path) -> memoryview:
    """Map a file and return its bytes; the kernel reads a page at its first use. Raises ValueError if it is empty."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def release_pages(data: memoryview) -> None:
    """Release the pages read of `data` if it is a mapped file; the kernel maps a page again when it is touched."""
    if isinstance(data.obj, mmap.mmap):
        data.obj.madvise(mmap.MADV_DONTNEED)
