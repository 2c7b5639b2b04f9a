"""The global adapter in its durable file: verified when read, mapped, and deleted when it is old."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from fedcore.core.errors import RunError
from fedcore.core.model.geometry import geometry_from_config
from fedcore.server.aggregate.global_file import (
    ADAPTER,
    GLOBALS_KEPT,
    VELOCITY,
    drop_older,
    map_global,
    read_global,
    write_global,
)
from tests.tiny_run import MODEL, drawn_adapter, spec_of

GEOMETRY = geometry_from_config(MODEL)


def test_a_damaged_or_missing_durable_file_is_named(tmp_path: Path) -> None:
    digest = write_global(tmp_path, drawn_adapter(spec_of(GEOMETRY, 1)), 1)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RunError, match=r"is damaged: expected sha256 .*; restore it from a copy"):
        read_global(tmp_path, 1, digest)
    with pytest.raises(RunError, match="cannot read the global adapter"):
        read_global(tmp_path, 2, digest)


def test_only_the_last_durable_files_stay_and_none_that_was_never_committed(tmp_path: Path) -> None:
    for number in (1, 2, 3, 4, 5):
        write_global(tmp_path, drawn_adapter(spec_of(GEOMETRY, 1)), number)
    drop_older(tmp_path, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"round-{number:08d}.safetensors" for number in (3, 4)]
    assert GLOBALS_KEPT == 2


def test_a_global_comes_back_bit_for_bit_read_and_mapped(tmp_path: Path) -> None:
    tensors = drawn_adapter(spec_of(GEOMETRY, 2))
    for kind in (ADAPTER, VELOCITY):
        digest = write_global(tmp_path / "globals", tensors, 7, kind=kind)
        path = tmp_path / "globals" / f"{kind}-00000007.safetensors"
        assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
        for copy in (read_global(path.parent, 7, digest, kind=kind), map_global(path.parent, 7, kind=kind)):
            assert copy.keys() == tensors.keys()
            assert all(np.array_equal(copy[name], tensors[name]) for name in tensors)


def test_files_of_one_kind_go_without_those_of_the_other(tmp_path: Path) -> None:
    tensors = drawn_adapter(spec_of(GEOMETRY, 1))
    for kind, numbers in ((ADAPTER, (1, 2, 3)), (VELOCITY, (1, 2))):
        for number in numbers:
            write_global(tmp_path, tensors, number, kind=kind)
    drop_older(tmp_path, 3)
    names = [f"round-{number:08d}.safetensors" for number in (2, 3)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        *names,
        *(f"velocity-{number:08d}.safetensors" for number in (1, 2)),
    ]
