import json
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from fedcore.client.data.gguf import convert_gguf
from fedcore.core.errors import ModelError
from fedcore.core.model.geometry import geometry_from_config
from fedcore.storage.models.checkpoint import fingerprint, read_config
from fedcore.storage.models.magnitudes import weight_magnitudes
from fedcore.storage.models.tensor_file import read_tensor, tensor_index

TOKENS = ["<unk>", "<s>", "</s>", "a", "b", "ab", "Ġ", "c"]
HIDDEN, FFN, HEADS, KV, HEAD_DIM = 32, 64, 4, 2, 8


def _write_gguf(path: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    rng = np.random.default_rng(0)
    shapes = {"token_embd": (len(TOKENS), HIDDEN), "output_norm": (HIDDEN,), "blk.0.attn_norm": (HIDDEN,)}
    shapes |= {"blk.0.ffn_norm": (HIDDEN,), "blk.0.attn_q": (HEADS * HEAD_DIM, HIDDEN)}
    shapes |= {"blk.0.attn_k": (KV * HEAD_DIM, HIDDEN), "blk.0.attn_v": (KV * HEAD_DIM, HIDDEN)}
    shapes |= {"blk.0.attn_output": (HIDDEN, HEADS * HEAD_DIM), "blk.0.ffn_gate": (FFN, HIDDEN)}
    shapes |= {"blk.0.ffn_up": (FFN, HIDDEN), "blk.0.ffn_down": (HIDDEN, FFN)}
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HEAD_DIM)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(TOKENS)
    writer.add_token_merges(["a b"])
    writer.add_token_types([2, 3, 3, 1, 1, 1, 1, 1])
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    for name, values in tensors.items():
        writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def test_a_converted_model_is_plain_float32(tmp_path: Path) -> None:
    written = _write_gguf(tmp_path / "m.gguf")
    folder = tmp_path / "model"
    folder.mkdir()
    convert_gguf(tmp_path / "m.gguf", folder)
    config = read_config(folder)
    assert "quantization_config" not in config
    geometry = geometry_from_config(config)
    assert (geometry.query_heads, geometry.kv_heads, geometry.ffn) == (HEADS, KV, FFN)
    index = tensor_index(folder)
    assert {entry.dtype for entry in index.values()} == {"F32"}
    np.testing.assert_array_equal(
        read_tensor(index["model.layers.0.mlp.up_proj.weight"]), written["blk.0.ffn_up"].astype(np.float32)
    )
    assert weight_magnitudes(folder, geometry).heads[0].shape == (KV,)
    assert len(fingerprint(folder).combined) == 64
    assert "ab" in json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]


def test_a_file_that_is_not_gguf_is_named(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"not gguf at all")
    with pytest.raises(ModelError, match=r"m\.gguf cannot be read as GGUF"):
        convert_gguf(tmp_path / "m.gguf", tmp_path)


def test_without_the_gguf_package_the_remedy_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ModelError, match=r"reading m\.gguf needs gguf: pip install gguf"):
        convert_gguf(tmp_path / "m.gguf", tmp_path)
