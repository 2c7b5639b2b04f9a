import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fedcore.core.codec.chain import decode, encode
from fedcore.core.codec.delta import make_delta
from fedcore.core.contract.assignment import Arm, Assignment, TrainingSpec
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.trained_part import Factors, TrainedPart
from fedcore.protos.values import BaseShift, BlobRef, WireAssignment
from fedcore.server.aggregate.uploads import score_shapes
from fedcore.simulation.workload.traffic import ModelledTraffic, RealTraffic
from fedcore.simulation.workload.workload import Group, Part, in_groups
from fedcore.strategies.policy.cost import RoundCost
from tests.tiny_run import MODEL, spec_of

GEOMETRY = geometry_from_config(MODEL)
SPEC = spec_of(GEOMETRY, 2)
FULL = KeepSet.full(GEOMETRY)


class NoFeedback:
    def send(self, part: Part, increment: dict[str, NDArray[np.float32]]) -> bytes:
        raise AssertionError("no error feedback was asked for")


def part(device: str, codec: str = "identity", *, score: bool = False, refs: tuple[BlobRef, ...] = ()) -> Part:
    training = TrainingSpec(
        batch_size=4,
        learning_rate=1e-3,
        weight_decay=0.0,
        lora_scale=2.0,
        importance="taylor",
        keep_optimizer=False,
        codec=codec,
    )
    assignment = Assignment(
        round=1,
        device=device,
        arm=Arm(sparsity=0.0, rank=2),
        keep_set=FULL,
        local_steps=1,
        weight=1,
        seed=0,
        deadline_s=1.0,
        score=score,
        training=training,
    )
    wire_assignment = WireAssignment(
        round=1,
        arm=assignment.arm,
        keep_set=BlobRef(id="sha256:" + "0" * 64, size=10, inline=b"x"),
        rank_blocks=refs,
        head=BlobRef(id="sha256:" + "1" * 64, size=20, inline=b"y"),
        local_steps=1,
        weight=1,
        seed=0,
        deadline_s=1.0,
        score=score,
        training=training,
        max_upload_bytes=1,
        basis="persistent",
    )
    return Part(device=device, assignment=assignment, wire_assignment=wire_assignment)


def increments(devices: int) -> dict[str, NDArray[np.float32]]:
    rng = np.random.default_rng(0)
    return {
        name: rng.standard_normal((devices, *shape)).astype(np.float32) * 0.01 for name, shape in SPEC.shapes().items()
    }


@pytest.mark.parametrize("codec", ["identity", "bf16", "fp16", "bf16+zstd", "int8", "topk:0.3+int4+zstd"])
@pytest.mark.parametrize("score", [False, True])
def test_the_parent_decodes_what_every_device_encoded(codec: str, score: bool) -> None:
    group = Group(round=1, adapter={}, parts=tuple(part(f"a-{number}", codec, score=score) for number in range(3)))
    stacked = increments(3)
    sent = RealTraffic(feedback=NoFeedback()).up(group, stacked)
    beside = 0
    if score:
        zeros = {name: np.zeros(shape, dtype=np.float32) for name, shape in score_shapes(FULL).items()}
        beside = len(encode(zeros, "identity"))
    assert sent.increments is not None
    for row in range(3):
        data = encode({name: value[row] for name, value in stacked.items()}, codec)
        assert sent.sizes[row] == len(data) + beside
        for name, value in decode(data).items():
            np.testing.assert_array_equal(sent.increments[name][row], value)


def test_a_device_fetches_the_blobs_it_lacks_and_a_delta_where_it_can() -> None:
    first = BlobRef(id="sha256:" + "a" * 64, size=1000)
    second = BlobRef(
        id="sha256:" + "b" * 64, size=1000, delta_id="sha256:" + "c" * 64, delta_base=first.id, delta_size=300
    )
    traffic = RealTraffic(feedback=NoFeedback())
    assert traffic.down(part("a-0", refs=(first,))) == 30 + 1000
    assert traffic.down(part("a-0", refs=(first,))) == 30
    assert traffic.down(part("a-0", refs=(second,))) == 30 + 300
    assert traffic.down(part("a-1", refs=(second,))) == 30 + 1000


def test_a_base_shift_comes_in_steps_or_whole_whichever_is_smaller() -> None:
    def shifted(device: str, number: int) -> Part:
        steps = tuple(BlobRef(id=f"step{at}", size=400, name=f"{at - 1}-{at}") for at in range(1, number + 1))
        whole = BlobRef(id=f"whole{number}", size=1000, name=str(number))
        one = part(device)
        return replace(
            one, wire_assignment=replace(one.wire_assignment, base_shift=BaseShift(whole=whole, steps=steps[-2:]))
        )

    traffic = RealTraffic(feedback=NoFeedback())
    assert traffic.down(part("a-0")) == 30
    assert [traffic.down(shifted("a-0", number)) for number in (1, 2, 2, 4, 7)] == [430, 430, 30, 830, 1030]
    assert traffic.down(shifted("late", 7)) == 1030


def test_groups_train_alike_and_are_of_even_size() -> None:
    parts = [part(f"a-{number}") for number in range(10)] + [part("b-0", "bf16")]
    groups = in_groups(list(reversed(parts)), {}, 4)
    assert sorted(len(group.parts) for group in groups) == [1, 3, 3, 4]
    assert {group.assignment.training.codec for group in groups} == {"identity", "bf16"}
    assert sorted(member.device for group in groups for member in group.parts) == sorted(
        member.device for member in parts
    )


def test_another_rank_is_another_group() -> None:
    one, two = part("a-0"), part("a-1")
    two = replace(two, assignment=replace(two.assignment, arm=Arm(sparsity=0.0, rank=1)))
    assert len(in_groups([one, two], {}, 8)) == 2


def test_modelled_bytes_are_those_of_the_groups_own_codec() -> None:
    cost = RoundCost(
        spec=SPEC, batch_size=4, max_length=8, steps_of=lambda rows: 1, dtype_bytes=4, upload_value_bytes=4.0
    )
    traffic = ModelledTraffic(cost=cost)
    plain, half = (
        traffic.up(Group(round=1, adapter={}, parts=(part("a-0", codec),)), None) for codec in ("identity", "bf16")
    )
    assert plain.increments is None and list(plain.sizes) == [4 * SPEC.num_values()]
    assert list(half.sizes) == [2 * SPEC.num_values()]
    assert traffic.down(part("a-0")) == 4 * SPEC.num_values()


def test_modelled_bytes_of_a_part_are_those_of_what_trains() -> None:
    cost = RoundCost(
        spec=SPEC, batch_size=4, max_length=8, steps_of=lambda rows: 1, dtype_bytes=4, upload_value_bytes=4.0
    )
    one = part("a-0")
    for trains in (
        TrainedPart(factors=Factors.A),
        TrainedPart(factors=Factors.B),
        TrainedPart(first_layer=SPEC.geometry.layers),
    ):
        training = replace(one.assignment.training, trains=trains)
        frozen = replace(one, assignment=replace(one.assignment, training=training))
        sent = ModelledTraffic(cost=cost).up(Group(round=1, adapter={}, parts=(frozen,)), None)
        trained = trains.of(SPEC.shapes())
        assert list(sent.sizes) == [4 * sum(math.prod(shape) for shape in trained.values())]
        assert len(in_groups([one, replace(frozen, device="a-1")], {}, 8)) == 2


def test_modelled_downloads_of_kept_rows_leave_the_others_out() -> None:
    cost = RoundCost(
        spec=SPEC,
        batch_size=4,
        max_length=8,
        steps_of=lambda rows: 1,
        dtype_bytes=4,
        upload_value_bytes=4.0,
        kept_rows=True,
    )
    half = KeepSet(heads=((0,),), channels=(tuple(range(8)),))
    cut = part("ada")
    cut = replace(cut, assignment=replace(cut.assignment, keep_set=half))
    whole = ModelledTraffic(cost=replace(cost, kept_rows=False))
    assert ModelledTraffic(cost=cost).down(cut) == 4 * SPEC.num_values(rank=2, keep_set=half)
    assert whole.down(cut) == 4 * SPEC.num_values(rank=2) == ModelledTraffic(cost=cost).down(part("bob"))
    profile = DeviceProfile(name="ada", device_class="c", num_examples=1, downlink_mbps=8e-6)
    assert cost.seconds(profile, half.counts, 2) < whole.cost.seconds(profile, half.counts, 2)
    assert cost.demand("c", half.counts, 2, 1).down_bytes < whole.cost.demand("c", half.counts, 2, 1).down_bytes


def test_frozen_factors_cost_nearly_nothing_in_a_download() -> None:
    rng = np.random.default_rng(0)
    before = rng.standard_normal((2, 64, 64)).astype(np.float32)  # the two factors of one blob
    both = before + rng.standard_normal(before.shape).astype(np.float32) * np.float32(1e-3)
    one = np.stack([before[0], both[1]])
    sizes = [len(make_delta(before.tobytes(), after.tobytes())) for after in (both, one)]
    assert sizes[1] < 0.55 * sizes[0] < 0.55 * before.nbytes
