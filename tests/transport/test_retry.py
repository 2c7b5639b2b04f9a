"""Which faults another try may mend."""

import pytest

from fedcore.core.errors import BlobCorrupt, FedcoreError, ProtocolError, TransportError, UpdateLate
from fedcore.transport.retry import retrying


class Transfer:
    """Fails as told, then succeeds."""

    def __init__(self, *faults: FedcoreError) -> None:
        self.faults = list(faults)
        self.tries = 0

    async def __call__(self) -> int:
        self.tries += 1
        if self.faults:
            raise self.faults.pop(0)
        return 42


async def test_broken_links_and_damaged_bytes_are_tried_again() -> None:
    transfer = Transfer(TransportError("broke"), BlobCorrupt("other bytes"))
    assert await retrying(transfer, tries=3, pause_s=0.0) == 42
    assert transfer.tries == 3


async def test_the_last_fault_is_raised() -> None:
    transfer = Transfer(*(TransportError(f"fault {number}") for number in range(9)))
    with pytest.raises(TransportError, match="fault 3"):
        await retrying(transfer, tries=4, pause_s=0.0)
    assert transfer.tries == 4


@pytest.mark.parametrize("fault", [ProtocolError("no such blob"), UpdateLate("too late")])
async def test_other_faults_are_raised_at_once(fault: FedcoreError) -> None:
    transfer = Transfer(fault)
    with pytest.raises(type(fault)):
        await retrying(transfer, pause_s=0.0)
    assert transfer.tries == 1
