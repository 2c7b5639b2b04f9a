import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcore.nn.batched.packed_rows import Packing, TokenTable, pack
from fedcore.nn.batched.schedule import BatchSize
from fedcore.nn.training.batches import EncodedRows, collate

DEVICES = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=5)


def make_shard(lengths: list[int], device: int) -> EncodedRows:
    ids = tuple(tuple(100 * device + 10 * row + i + 1 for i in range(n)) for row, n in enumerate(lengths))
    return EncodedRows(
        token_ids=ids,
        segment_ids=tuple(tuple(i % 2 for i in range(n)) for n in lengths),
        labels=np.arange(len(lengths)) % 3,
        pad_id=7,
    )


def packing_of(devices: list[list[int]]) -> Packing:
    return pack(np.array([n for device in devices for n in device]), np.array([len(device) for device in devices]))


@given(devices=DEVICES)
def test_a_pack_is_what_collate_makes_of_every_device(devices: list[list[int]]) -> None:
    shards = [make_shard(lengths, device) for device, lengths in enumerate(devices)]
    chosen = [np.arange(len(lengths))[::-1] for lengths in devices]
    batch = TokenTable.of(shards).pack(range(len(shards)), chosen)
    row = 0
    for device, (shard, rows) in enumerate(zip(shards, chosen, strict=True)):
        expected = collate(shard, rows)
        count, width = expected["input_ids"].shape
        got = slice(row, row + count)
        np.testing.assert_array_equal(batch.row_ids[got, :width], expected["input_ids"])
        np.testing.assert_array_equal(batch.row_segments[got, :width], expected["token_type_ids"])
        np.testing.assert_array_equal(batch.packing.mask[got, :width], expected["attention_mask"] == 1)
        assert not batch.packing.mask[got, width:].any() and (batch.row_ids[got, width:] == 7).all()
        np.testing.assert_array_equal(batch.pick[device, :count], np.arange(row, row + count))
        assert (batch.pick[device, count:] == row).all()
        np.testing.assert_array_equal(batch.labels[device, :count], expected["labels"])
        np.testing.assert_allclose(batch.weights[device, :count], 1 / count)
        assert not batch.weights[device, count:].any()
        row += count


@given(devices=DEVICES)
def test_slots_hold_every_token_of_a_device_in_order(devices: list[list[int]]) -> None:
    shards = [make_shard(lengths, device) for device, lengths in enumerate(devices)]
    batch = TokenTable.of(shards).pack(range(len(shards)), [np.arange(len(lengths)) for lengths in devices])
    slots = batch.packing.to_slots(batch.row_ids)
    for device, shard in enumerate(shards):
        own = [token for ids in shard.token_ids for token in ids]
        np.testing.assert_array_equal(slots[device, : len(own)], own)
        assert (slots[device, len(own) :] == own[0]).all()


@given(devices=DEVICES)
def test_there_and_back_again_is_the_same_and_so_are_gradients(devices: list[list[int]]) -> None:
    packing = packing_of(devices)
    states = torch.randn(packing.rows, packing.width, 2, generator=torch.Generator().manual_seed(0))
    states.requires_grad_()
    again = packing.to_rows(packing.to_slots(states))
    torch.testing.assert_close(again[packing.mask], states[packing.mask], rtol=0, atol=0)
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(1)) * packing.mask[..., None]
    (again * weights).sum().backward()
    torch.testing.assert_close(states.grad, weights, rtol=0, atol=0)


@given(devices=DEVICES)
def test_gaps_show_the_same_row_or_device_and_send_no_gradient_on(devices: list[list[int]]) -> None:
    packing = packing_of(devices)
    owner = torch.arange(packing.devices).repeat_interleave(packing.slots).view(packing.devices, packing.slots, 1)
    rows = packing.to_rows(owner)[..., 0]
    assert (rows == rows[:, :1]).all()
    slots = torch.zeros(packing.devices, packing.slots, 1, requires_grad=True)
    packing.to_rows(slots).sum().backward()
    assert slots.grad is not None
    assert int(slots.grad.sum()) == sum(n for device in devices for n in device)


def test_a_shard_without_segments_counts_as_zeros() -> None:
    shard = EncodedRows(token_ids=((1, 2), (3,)), segment_ids=(), labels=np.array([0, 1]), pad_id=0)
    table = TokenTable.of([shard, shard])
    assert not table.segments.any() and table.first_row.tolist() == [0, 2]
    assert table.size_of(1, np.array([0, 1, 1])) == BatchSize(tokens=4, rows=3, width=2)
