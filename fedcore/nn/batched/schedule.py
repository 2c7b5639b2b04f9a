"""The rows of every device's steps, and the groups of devices that pass through the model together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcore.core.seeds import generator
from fedcore.nn.training.batches import EncodedRows, epoch_batches, probe_indices

Indices = NDArray[np.int64]

PLACES = 3  # most padded places in attention per token of a pass; one-sentence reviews take about 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSchedule:
    """Row numbers within the device's shard, as `fedcore.nn.training.train` draws them."""

    probe: Indices
    steps: tuple[Indices, ...]
    calibration: Indices  # the batch after the last step's

    @property
    def starts_on_probe(self) -> bool:
        """Whether the first step has exactly the probe's rows, so that its loss is the loss before training."""
        return bool(self.steps) and np.array_equal(np.sort(self.steps[0]), self.probe)

    @property
    def trained_rows(self) -> Indices:
        """The rows of all steps, ascending, each once."""
        return np.unique(np.concatenate(self.steps)) if self.steps else np.empty(0, dtype=np.int64)

    def largest(self, lengths: Sequence[int]) -> tuple[int, int]:
        """Return (rows, tokens of the longest) of the step with the most padded tokens; zeros without a step."""
        sizes = [(len(step), max(lengths[row] for row in step)) for step in self.steps]
        return max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))


def schedule(
    rows: EncodedRows, seed: int, *, batch_size: int, steps: int, draws: Sequence[int] | None = None
) -> BatchSchedule:
    """Return the batches of one device; `draws` as in `epoch_batches`."""
    stream = epoch_batches(rows, batch_size, generator(seed, "batches"), draws)
    return BatchSchedule(
        probe=probe_indices(len(rows), batch_size),
        steps=tuple(next(stream) for _ in range(steps)),
        calibration=next(stream),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSize:
    """The size of one device's batch."""

    tokens: int  # of all its rows, none padded
    rows: int
    width: int  # tokens of the longest row


def passes(sizes: Mapping[int, BatchSize], max_tokens: int) -> Iterator[list[int]]:
    """Yield all devices in groups of similar size: each takes at most `max_tokens`, or is one device that takes more.

    A group takes as many slots per device as its largest member has tokens. Attention pads all of a group's rows to
    the longest one: where they take more than PLACES times as many places, the group ends as well.
    """
    group: list[int] = []
    rows = width = 0
    for device, size in sorted(sizes.items(), key=lambda item: (item[1].tokens, item[1].width, item[0])):
        padded = (rows + size.rows) * max(width, size.width)
        if group and max((len(group) + 1) * size.tokens, padded / PLACES) > max_tokens:
            yield group
            group, rows, width = [], 0, 0
        group.append(device)
        rows, width = rows + size.rows, max(width, size.width)
    if group:
        yield group
