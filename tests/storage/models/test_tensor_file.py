import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from fedcore.core.errors import ModelError
from fedcore.storage.models.tensor_file import TensorEntry, read_header, read_tensor, tensor_files, tensor_index


def _raw(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return path


def _entry(**changes: Any) -> dict[str, Any]:
    return {"t": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


def test_files_of_the_reference_library_are_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {"a": rng.normal(size=(3, 4)), "b": np.float16([1.5, -2.0]), "c": np.array([[0.25]], dtype=np.float32)}
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    index = tensor_index(tmp_path)
    assert set(index) == {"a", "b", "c"}
    assert (index["a"].dtype, index["a"].shape) == ("F64", (3, 4))
    for name, values in tensors.items():
        read = read_tensor(index[name])
        assert read.dtype == np.float32 and read.shape == values.shape
        assert np.array_equal(read, values.astype(np.float32))


def test_bfloat16_is_the_upper_half_of_a_float32(tmp_path: Path) -> None:
    values = np.array([1.0, -2.5, 3.140625, 0.0], dtype=np.float32)
    data = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    header = _entry(dtype="BF16", shape=[2, 2])
    (entry,) = read_header(_raw(tmp_path / "x.safetensors", header, data))
    assert read_tensor(entry).tolist() == [[1.0, -2.5], [3.140625, 0.0]]


def test_scalars_and_empty_tensors(tmp_path: Path) -> None:
    save_file({"s": np.array(2.0, dtype=np.float32), "e": np.zeros((0, 3), np.float32)}, tmp_path / "model.safetensors")
    index = tensor_index(tmp_path)
    assert read_tensor(index["s"]).tolist() == 2.0
    assert read_tensor(index["e"]).shape == (0, 3)


def test_integers_are_listed_but_not_read(tmp_path: Path) -> None:
    save_file({"ids": np.arange(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="'ids' is I64; expected F64, F32, F16 or BF16"):
        read_tensor(tensor_index(tmp_path)["ids"])


HOSTILE = [
    (b"not json", b"", None, "not valid JSON"),
    (b"[" * 100_000, b"", None, "not valid JSON"),
    (b"\xff\xfe", b"", None, "not valid JSON"),
    ([1, 2], b"", None, "not a JSON object"),
    (_entry(), b"12345678", 2**63, "not a safetensors file, or cut short"),
    (_entry(), b"1234567", None, "does not fit"),
    (_entry(shape=[3]), b"12345678", None, "does not fit"),
    (_entry(data_offsets=[8, 0]), b"12345678", None, "does not fit"),
    (_entry(data_offsets=[-8, 0]), b"12345678", None, "malformed"),
    (_entry(data_offsets=[0]), b"12345678", None, "malformed"),
    (_entry(data_offsets="ab"), b"12345678", None, "malformed"),
    (_entry(shape=[-1, -2]), b"12345678", None, "malformed"),
    (_entry(shape=[2.0]), b"12345678", None, "malformed"),
    (_entry(shape=[True, 2]), b"12345678", None, "malformed"),
    (_entry(shape=[2**40, 2**40]), b"12345678", None, "does not fit"),
    (_entry(dtype="F99"), b"12345678", None, "malformed"),
    (_entry(dtype=[]), b"12345678", None, "malformed"),
    ({"t": 5}, b"", None, "malformed"),
]


@pytest.mark.parametrize(("header", "data", "length", "message"), HOSTILE)
def test_hostile_headers_are_refused_with_the_file_named(
    tmp_path: Path, header: Any, data: bytes, length: int | None, message: str
) -> None:
    path = _raw(tmp_path / "x.safetensors", header, data, length)
    with pytest.raises(ModelError, match=message) as caught:
        read_header(path)
    assert str(path) in str(caught.value)


@settings(max_examples=60)
@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(data)
    try:
        entries = read_header(path)
    except ModelError as refused:
        assert str(path) in str(refused)
    else:
        assert all(entry.end <= len(data) for entry in entries)


def test_a_file_cut_after_indexing_is_noticed(tmp_path: Path) -> None:
    save_file({"a": np.zeros(10, np.float32)}, tmp_path / "model.safetensors")
    entry = tensor_index(tmp_path)["a"]
    entry.file.write_bytes(entry.file.read_bytes()[:-4])
    with pytest.raises(ModelError, match="cut short inside tensor 'a'"):
        read_tensor(entry)


def test_shards_are_read_as_one(tmp_path: Path) -> None:
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / "model-1.safetensors")
    save_file({"b": np.ones(1, np.float32)}, tmp_path / "model-2.safetensors")
    save_file({"a": np.ones(1, np.float32)}, tmp_path / "extra.safetensors")
    names = {"a": "model-1.safetensors", "b": "model-2.safetensors"}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    index = tensor_index(tmp_path)
    assert {name: entry.file.name for name, entry in index.items()} == names


def test_one_model_file_is_preferred_to_strangers_beside_it(tmp_path: Path) -> None:
    save_file({"a": np.zeros(1, np.float32)}, tmp_path / "model.safetensors")
    save_file({"a": np.ones(1, np.float32)}, tmp_path / "adapter_model.safetensors")
    assert [file.name for file in tensor_files(tmp_path)] == ["model.safetensors"]


def test_a_name_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        save_file({"a": np.zeros(1, np.float32)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(ModelError, match=r"'a' is in one\.safetensors and two\.safetensors"):
        tensor_index(tmp_path)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({"weight_map": {"a": "gone.safetensors"}}, r"names gone\.safetensors, which is not there"),
        ({"weight_map": {"a": "../up.safetensors"}}, "is not a file name inside"),
        ({"weight_map": {"a": 5}}, "is not a file name inside"),
        ({"weight_map": []}, "with a weight_map"),
        ({}, "with a weight_map"),
    ],
)
def test_a_bad_shard_index_is_refused(tmp_path: Path, index: Any, message: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match=message):
        tensor_files(tmp_path)


def test_a_missing_folder_and_a_pickled_checkpoint_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model folder"):
        tensor_files(tmp_path / "gone")
    with pytest.raises(ModelError, match=r"expected model\.safetensors"):
        tensor_files(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"found pytorch_model\.bin; convert it.*save_pretrained"):
        tensor_files(tmp_path)


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.safetensors: cannot be read"):
        read_header(tmp_path / "gone.safetensors")


def test_entries_are_values(tmp_path: Path) -> None:
    path = _raw(tmp_path / "x.safetensors", _entry(), b"12345678")
    start = path.stat().st_size - 8
    assert read_header(path) == (TensorEntry(name="t", file=path, dtype="F32", shape=(2,), begin=start, end=start + 8),)
