"""From a trained increment to the bytes of an update, with error feedback where the codec asks for it."""

from collections.abc import Iterable

from client.residuals import Residuals
from client.trainer import Trained
from fedcore.codec.chain import decode, encode, encode_chunks
from fedcore.codec.feedback import Coordinates, Residual, carried, compensated, left_over
from fedcore.codec.grammar import parse_chain
from fedcore.keep_set import KeepSet
from protos.values import Work


def encoded_update(
    work: Work, trained: Trained, keep_set: KeepSet, residuals: Residuals
) -> Iterable[bytes | memoryview]:
    """Return the update's bytes in pieces; what they leave over is prepared in `residuals` before they can be sent."""
    codec = work.training.codec
    if not parse_chain(codec).feedback:
        return encode_chunks(trained.increment, codec)
    now = Coordinates(basis=work.basis, rank=work.arm.rank, keep_set=keep_set)
    kept = carried(residuals.committed(), trained.increment, now, trained.geometry)
    sent = compensated(trained.increment, kept)
    data = encode(sent, codec)
    residuals.prepare(Residual(at=now, tensors=left_over(sent, decode(data))), work.round)
    return (data,)
