import numpy as np
import pytest

from benchmarks.codecs import CODECS, Channel, measure, plane_entropy_bytes
from benchmarks.recording import Recorded
from fedcore.core.codec.grammar import FORMATS, parse_chain
from fedcore.core.contract.assignment import Arm, Assignment, TrainingSpec
from fedcore.core.model.geometry import Geometry, geometry_from_config
from fedcore.core.model.keep_set import KeepSet
from tests.tiny_run import MODEL

GEOMETRY: Geometry = geometry_from_config(MODEL)
FULL = KeepSet.full(GEOMETRY)


def update(seed, rank=4):
    rng = np.random.default_rng(seed)
    tensors = {f"layers.{i}.q.A": (0.01 * rng.standard_normal((rank, 384))).astype(np.float32) for i in range(6)}
    return Recorded(round=1, device=f"d-{seed}", rank=rank, tensors=tensors)


def assignment(number, keep_set=FULL):
    training = TrainingSpec(
        batch_size=1,
        learning_rate=1.0,
        weight_decay=0.0,
        lora_scale=1.0,
        importance="taylor",
        keep_optimizer=False,
        codec="identity",
    )
    return Assignment(
        round=number,
        device="d",
        arm=Arm(sparsity=0.0, rank=2),
        keep_set=keep_set,
        local_steps=1,
        weight=1,
        seed=0,
        deadline_s=1.0,
        score=False,
        training=training,
    )


def test_every_format_and_stage_is_measured():
    chains = [parse_chain(codec) for codec in CODECS]
    words = {chain.format.word.partition(":")[0] for chain in chains}
    assert words == set(FORMATS)
    assert any(chain.feedback for chain in chains) and any(chain.share for chain in chains)


def test_entropy_of_planes_is_exact():
    bf16 = np.array([0x3F80, 0xBF80, 0x3F80, 0xBF80], dtype="<u2")  # exponents equal, two signs
    assert plane_entropy_bytes(bf16) == pytest.approx(4 / 8)
    values = np.array([1.0, 2.0, 4.0, 8.0], dtype="<f4")  # four exponents, nothing else
    assert plane_entropy_bytes(values) == pytest.approx(2 * 4 / 8)


def test_rows_say_what_a_codec_saves_and_loses():
    rows = {row["codec"]: row for row in measure([update(0), update(1)], ["identity", "bf16", "bf16+zstd", "int8"], 1)}
    assert rows["identity"]["error"] == 0 and rows["identity"]["of f32"] == pytest.approx(1.0, abs=0.02)
    assert rows["bf16"]["of bf16"] == 1 and 0 < rows["bf16"]["error"] < 2**-8
    coded = rows["bf16+zstd"]
    assert coded["error"] == rows["bf16"]["error"] and coded["of f32"] < 0.36
    assert coded["tensor entropy"] <= coded["entropy"] < 0.7 and 0 < coded["over %"] < coded["over t. %"] < 10
    assert rows["int8"]["error"] < 0.02 and "entropy" not in rows["int8"]
    assert all(row["enc MB/s"] > 0 and row["dec MB/s"] > 0 for row in rows.values())


def test_a_channel_feeds_back_what_it_lost():
    increment = {"head.weight": np.array([1.0, 0.3, 0.2, 0.0], dtype=np.float32)}
    channel = Channel(codec="ef+topk:0.25", geometry=GEOMETRY)
    arrived = [channel.carry(assignment(number), increment)["head.weight"].tolist() for number in (1, 2, 3, 4)]
    assert [values[0] > 0 for values in arrived] == [True, True, True, False]
    assert arrived[3] == pytest.approx([0, 1.2, 0, 0])
    plain = Channel(codec="topk:0.25", geometry=GEOMETRY)
    assert [plain.carry(assignment(number), increment)["head.weight"][0] for number in (1, 2)] == [1, 1]
