"""General texts among a device's own rows, so that a model which is tuned and cut does not forget its language.

A batch has a fixed number of them, and they make a fixed share of its loss:

    loss = (1 - share) mean over own answered tokens + share mean over tokens of general texts

A text has many more tokens than an answer: the mean over all tokens would be the texts' alone. Rows are weighed for it,
and a teacher's divergences with them. Reported losses before and after training are of own rows alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from fedcore.core.data.label_prior import LabelPlan
from fedcore.core.seeds import generator
from fedcore.nn.losses.next_token import WEIGHTS
from fedcore.nn.training.batches import NO_TARGET, Batch, EncodedRows, collate, epoch_batches

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mixture:
    """A device's rows with general texts after them: `own` rows come first, `share` is of rows and loss."""

    rows: EncodedRows
    own: int
    share: float

    @staticmethod
    def of(rows: EncodedRows, texts: EncodedRows | None, share: float) -> "Mixture":
        """Return the rows alone where there are no texts or no share for them."""
        if texts is None or not share:
            return Mixture(rows=rows, own=len(rows), share=0.0)
        both = replace(
            rows,
            token_ids=rows.token_ids + texts.token_ids,
            labels=np.concatenate([rows.labels, texts.labels]),
            token_targets=rows.token_targets + texts.token_targets,
            questions=rows.questions + texts.questions,
        )
        return Mixture(rows=both, own=len(rows), share=share)

    @property
    def texts(self) -> int:
        """Number of general texts."""
        return len(self.rows) - self.own

    def batches(self, batch_size: int, seed: int, labels: LabelPlan) -> Iterator[Indices]:
        """Yield the rows of batches for ever: own rows first, each kind in a random order of its own."""
        rng = generator(seed, "batches")
        if not self.texts:
            yield from epoch_batches(self.rows, batch_size, rng, labels.draws)
        count = replayed_rows(batch_size, self.share)
        own = epoch_batches(self.rows.select(np.arange(self.own)), batch_size - count, rng, labels.draws)
        texts = epoch_batches(
            self.rows.select(np.arange(self.own, len(self.rows))), count, generator(seed, "replay"), None
        )
        for mine, others in zip(own, texts, strict=True):  # both are endless
            yield np.concatenate([mine, self.own + others])

    def collate(self, indices: Indices) -> Batch:
        """Return a batch with the weights of its rows, float32 (batch,), where it has general texts."""
        batch = collate(self.rows, indices)
        general = np.asarray(indices) >= self.own
        if not general.any():
            return batch
        tokens = (batch["labels"][:, 1:] != NO_TARGET).sum(dim=1).float()
        others = torch.from_numpy(general)
        weight = self.share / (1.0 - self.share) * float(tokens[~others].sum()) / max(1.0, float(tokens[others].sum()))
        return {**batch, WEIGHTS: torch.where(others, weight, 1.0)}


def replayed_rows(batch_size: int, share: float) -> int:
    """Return how many rows of a batch are general texts: at least one, and one less than all at most."""
    return max(1, min(batch_size - 1, round(share * batch_size)))
