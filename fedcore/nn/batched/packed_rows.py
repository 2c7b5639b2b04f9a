"""Rows of many devices in one tensor without padding between them, and the way back to one row per line.

Two layouts hold the same tokens. *Slots*, (devices, slots): the rows of a device one after the other, so that linear
layers compute little padding, and the factors of a device meet its tokens in one batched product. *Rows*, (rows,
width): padded on the right, as attention and pooling need them. A gap repeats the first token of the same row or
device, and passes no gradient back: a device whose values are NaN cannot affect its neighbours.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedcore.core.tasks.task import Targets
from fedcore.nn.batched.schedule import BatchSize, Indices
from fedcore.nn.training.batches import EncodedRows

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """Where the tokens of one pass lie in both layouts."""

    devices: int
    slots: int  # of every device
    rows: int  # of all devices
    width: int  # tokens of the longest row
    slot_of: torch.Tensor  # (rows * width,) the slot shown at a place of a row
    place_of: torch.Tensor  # (devices * slots,) the place of a row shown in a slot
    free_slots: torch.Tensor  # slots that hold no token
    free_places: torch.Tensor  # places beyond the end of a row
    mask: torch.Tensor  # (rows, width) bool, true for tokens

    def to(self, device: torch.device) -> "Packing":
        """Return the same packing for states on `device`."""
        return replace(
            self,
            slot_of=self.slot_of.to(device),
            place_of=self.place_of.to(device),
            free_slots=self.free_slots.to(device),
            free_places=self.free_places.to(device),
            mask=self.mask.to(device),
        )

    def to_rows(self, states: torch.Tensor) -> torch.Tensor:
        """Return (devices, slots, ...) as (rows, width, ...)."""
        flat = states.reshape(self.devices * self.slots, -1)
        moved = _moved(flat, self.slot_of, self.place_of, self.free_slots)
        return moved.view(self.rows, self.width, *states.shape[2:])

    def to_slots(self, states: torch.Tensor) -> torch.Tensor:
        """Return (rows, width, ...) as (devices, slots, ...)."""
        flat = states.reshape(self.rows * self.width, -1)
        moved = _moved(flat, self.place_of, self.slot_of, self.free_places)
        return moved.view(self.devices, self.slots, *states.shape[2:])


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBatch:
    """One batch of every device of a pass, ready for the model."""

    packing: Packing
    row_ids: torch.Tensor  # (rows, width) token ids, padded
    row_segments: torch.Tensor  # (rows, width) segment ids, padded with 0
    pick: torch.Tensor  # (devices, most rows) number of a row in the pass; the device's first row fills the rest
    labels: torch.Tensor  # (devices, most rows)
    weights: torch.Tensor  # (devices, most rows) float32, 1 / rows of the device, 0 beyond its last


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenTable:
    """The rows of many devices as flat arrays, built once and read by every pass."""

    tokens: Indices  # of all rows, one after the other
    segments: Indices
    starts: Indices  # (rows,) where a row begins in `tokens`
    lengths: Indices  # (rows,)
    labels: Targets  # (rows,)
    first_row: Indices  # (devices,)
    pad_id: int
    device: torch.device  # where batches are packed to

    @staticmethod
    def of(shards: Sequence[EncodedRows], device: torch.device = CPU) -> "TokenTable":
        """Return the table of one shard per device; a shard without segment ids counts as all 0."""
        lengths = np.array([len(ids) for shard in shards for ids in shard.token_ids], dtype=np.int64)
        total = int(lengths.sum())
        ids = itertools.chain.from_iterable(shard.token_ids for shard in shards)
        segments = itertools.chain.from_iterable(
            shard.segment_ids or tuple((0,) * len(ids) for ids in shard.token_ids) for shard in shards
        )
        sizes = np.array([len(shard) for shard in shards], dtype=np.int64)
        return TokenTable(
            tokens=np.fromiter(itertools.chain.from_iterable(ids), dtype=np.int64, count=total),
            segments=np.fromiter(itertools.chain.from_iterable(segments), dtype=np.int64, count=total),
            starts=_starts(lengths),
            lengths=lengths,
            labels=np.concatenate([shard.labels for shard in shards]),
            first_row=_starts(sizes),
            pad_id=shards[0].pad_id,
            device=device,
        )

    def size_of(self, device: int, rows: Indices) -> BatchSize:
        """Return the size of a batch of these rows of one device."""
        lengths = self.lengths[self.first_row[device] + rows]
        return BatchSize(tokens=int(lengths.sum()), rows=len(rows), width=int(lengths.max()))

    def rows_of(self, devices: Sequence[int], batches: Sequence[Indices]) -> Indices:
        """Return the row numbers of a pass among all rows, one device after the other."""
        return np.concatenate([self.first_row[device] + batch for device, batch in zip(devices, batches, strict=True)])

    def pack(self, devices: Sequence[int], batches: Sequence[Indices]) -> PackedBatch:
        """Return one batch per device; `batches[i]` are row numbers within the shard of `devices[i]`, at least one."""
        counts = np.array([len(batch) for batch in batches], dtype=np.int64)
        rows = self.rows_of(devices, batches)
        packing = pack(self.lengths[rows], counts)
        places = np.minimum(np.arange(packing.width), self.lengths[rows][:, None] - 1) + self.starts[rows][:, None]
        mask = packing.mask.numpy()
        first, column = _starts(counts), np.arange(counts.max())
        present = column < counts[:, None]  # (devices, most rows)
        pick = first[:, None] + np.where(present, column, 0)
        return PackedBatch(
            packing=packing.to(self.device),
            row_ids=self._placed(np.where(mask, self.tokens[places], self.pad_id)),
            row_segments=self._placed(np.where(mask, self.segments[places], 0)),
            pick=self._placed(pick),
            labels=self._placed(self.labels[rows][pick]),
            weights=self._placed((present / counts[:, None]).astype(np.float32)),
        )

    def _placed(self, values: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(values).to(self.device)


def pack(lengths: Indices, counts: Indices) -> Packing:
    """Return the packing of rows with these `lengths`; the first `counts[0]` rows are the first device's, and so on."""
    rows, width = len(lengths), int(lengths.max())
    device = np.repeat(np.arange(len(counts)), counts)  # (rows,)
    ends = np.cumsum(lengths)
    tokens = np.add.reduceat(lengths, _starts(counts))  # (devices,)
    slots = int(tokens.max())
    start = (ends - lengths) - _starts(tokens)[device] + device * slots  # (rows,) first slot of every row
    column = np.arange(width)
    mask = column < lengths[:, None]
    slot_of = start[:, None] + np.where(mask, column, 0)  # (rows, width)
    place_of = np.repeat(_starts(counts) * width, slots)  # a free slot shows the device's first token
    place_of[slot_of[mask]] = np.flatnonzero(mask)
    used = np.zeros(len(counts) * slots, dtype=bool)
    used[slot_of[mask]] = True
    return Packing(
        devices=len(counts),
        slots=slots,
        rows=rows,
        width=width,
        slot_of=torch.from_numpy(slot_of.reshape(-1)),
        place_of=torch.from_numpy(place_of),
        free_slots=torch.from_numpy(np.flatnonzero(~used)),
        free_places=torch.from_numpy(np.flatnonzero(~mask)),
        mask=torch.from_numpy(mask),
    )


class _Move(torch.autograd.Function):
    """Gather lines. The gradient is gathered back the same way: every true token is shown at exactly one place."""

    @staticmethod
    def forward(
        ctx: Any, lines: torch.Tensor, index: torch.Tensor, back: torch.Tensor, silent: torch.Tensor
    ) -> torch.Tensor:
        ctx.save_for_backward(back, silent)
        return lines.index_select(0, index)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        back, silent = ctx.saved_tensors
        return gradients[0].index_select(0, back).index_fill_(0, silent, 0.0), None, None, None


def _moved(lines: torch.Tensor, index: torch.Tensor, back: torch.Tensor, silent: torch.Tensor) -> torch.Tensor:
    moved: torch.Tensor = _Move.apply(lines, index, back, silent)  # type: ignore[no-untyped-call]
    return moved


def _starts(sizes: Indices) -> Indices:
    return np.cumsum(sizes) - sizes
