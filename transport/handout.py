"""The global adapter as a device receives it: rank blocks and head, brought, checked and joined."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedcore.codec.chain import decode
from fedcore.errors import ProtocolError
from protos.values import BlobRef
from storage.blobs import BlobStore
from transport.payload import payload_view


def read_handout(blobs: BlobStore, rank_blocks: Sequence[BlobRef], head: BlobRef) -> dict[str, NDArray[np.float32]]:
    """Join rank blocks (ascending) and head to one mapping in full coordinates.

    Raises ProtocolError where the blocks do not carry the same tensors.
    """
    parts = [decode(payload_view(ref, blobs)) for ref in rank_blocks]
    if not parts or any(set(part) != set(parts[0]) for part in parts):
        raise ProtocolError("the adapter's rank blocks do not carry the same tensors; update coordinator and device")
    tensors = {
        name: np.concatenate([part[name] for part in parts], axis=0 if name.endswith(".A") else 1) for name in parts[0]
    }
    carried = decode(payload_view(head, blobs))
    return tensors | {name: np.array(carried[name]) for name in carried}
