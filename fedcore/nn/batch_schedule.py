"""Which rows every virtual device takes in which step, and which devices go through the model together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fedcore.nn.batches import EncodedRows, epoch_batches, probe_indices
from fedcore.nn.packed_rows import Indices
from fedcore.seeds import generator


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """Row numbers within the device's shard, as `fedcore.nn.train` draws them."""

    probe: Indices
    steps: tuple[Indices, ...]
    calibration: Indices  # the batch after the last step's

    @property
    def starts_on_probe(self) -> bool:
        """Whether the first step sees just the probe's rows, so that its loss is the loss before training."""
        return bool(self.steps) and np.array_equal(np.sort(self.steps[0]), self.probe)

    def largest(self, lengths: Sequence[int]) -> tuple[int, int]:
        """Return (rows, tokens of the longest) of the step with the most padded tokens; zeros without a step."""
        sizes = [(len(step), max(lengths[row] for row in step)) for step in self.steps]
        return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))


def schedule(rows: EncodedRows, seed: int, *, batch_size: int, steps: int) -> Schedule:
    """Return the batches of one device."""
    stream = epoch_batches(rows.lengths, batch_size, generator(seed, "batches"))
    return Schedule(
        probe=probe_indices(len(rows), batch_size),
        steps=tuple(next(stream) for _ in range(steps)),
        calibration=next(stream),
    )


def passes(tokens: Mapping[int, int], max_tokens: int) -> Iterator[list[int]]:
    """Yield all devices in groups of like size: as many as take up to `max_tokens`, or one that takes more.

    `tokens` are those of every device's batch. A group takes as many slots per device as its largest member needs.
    """
    group: list[int] = []
    for size, device in sorted((size, device) for device, size in tokens.items()):
        if group and (len(group) + 1) * size > max_tokens:
            yield group
            group = []
        group.append(device)
    if group:
        yield group
