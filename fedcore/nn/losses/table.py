"""Every loss, by the name that a task gives it; `LOSSES.add` takes further ones."""

from fedcore.core.open_table import OpenTable
from fedcore.nn.losses.cross_entropy import CROSS_ENTROPY
from fedcore.nn.losses.loss import Loss
from fedcore.nn.losses.next_token import NEXT_TOKEN
from fedcore.nn.losses.squared_error import SQUARED_ERROR

LOSSES: OpenTable[Loss] = OpenTable(
    "loss", {"cross-entropy": CROSS_ENTROPY, "next-token": NEXT_TOKEN, "squared-error": SQUARED_ERROR}
)
