"""From a trained increment to the bytes of an update, with error feedback where the codec asks for it; from group
importances to theirs.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from fedcore.client.training.residuals import Residuals
from fedcore.core.codec.chain import decode, encode, encode_chunks
from fedcore.core.codec.feedback import Coordinates, Residual, carried, compensated, left_over, waiting
from fedcore.core.codec.grammar import parse_chain
from fedcore.core.contract.outcome import INFLUENCES, GroupScores
from fedcore.core.model.geometry import Geometry
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.values import WireAssignment


def encoded_update(
    assignment: WireAssignment,
    increment: Mapping[str, NDArray[np.float32]],
    *,
    keep_set: KeepSet,
    geometry: Geometry,
    residuals: Residuals,
) -> Iterable[bytes | memoryview]:
    """Return the update's bytes in pieces; what they leave over is prepared in `residuals` before they can be sent.

    `geometry` is the dense model's.
    """
    codec = assignment.training.codec
    if not parse_chain(codec).feedback:
        return encode_chunks(increment, codec)
    now = Coordinates(basis=assignment.basis, rank=assignment.arm.rank, keep_set=keep_set)
    committed = residuals.committed()
    sent = compensated(increment, carried(committed, increment, now, geometry))
    data = encode(sent, codec)
    left = left_over(sent, decode(data)) | waiting(committed, increment, now, geometry)
    residuals.prepare(Residual(at=now, tensors=left), assignment.round)
    return (data,)


def encoded_scores(scores: GroupScores) -> Iterable[bytes | memoryview]:
    """Return the bytes of group importances in pieces."""
    tensors = {f"layers.{layer}.heads": value for layer, value in enumerate(scores.heads) if len(value)}
    tensors |= {f"layers.{layer}.channels": value for layer, value in enumerate(scores.channels) if len(value)}
    if scores.layers is not None:
        tensors[INFLUENCES] = scores.layers
    return encode_chunks(tensors, "identity")
