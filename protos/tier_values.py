"""What travels between an edge and the tier above it, as plain frozen values. Fields: protos/v1/tier.proto."""

from dataclasses import dataclass, field

from fedcore.core.contract.outcome import DeviceReport
from fedcore.core.model.adapter import AdapterSpec
from fedcore.protos.values import BlobRef, Downward, Join, Upward, Verdict, Welcome, WireAssignment


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafJoin:
    """An edge presents a device below it."""

    join: Join

    @property
    def device(self) -> str:
        """The device's name."""
        return self.join.name


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafLeft:
    """A device is not below this edge any more; `lost` where its lease has run out, or it was cut off as revoked."""

    device: str
    lost: bool = False
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafJoined:
    """The join of a device below an edge was accepted."""

    device: str
    welcome: Welcome


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafRefused:
    """The join of a device below an edge was refused: `error` names the class, as on a call of its own."""

    device: str
    error: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafDismissed:
    """This session of a device below an edge ends; without a goodbye the device is known elsewhere by now."""

    device: str
    epoch: int
    goodbye: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierSpec:
    """How an edge verifies and folds."""

    aggregator: str
    adapter: AdapterSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundShare:
    """Assignments of a round for devices below an edge; blobs in `assignments` carry no bytes, those in `blobs` do."""

    round: int
    deadline_s: float
    spec: TierSpec
    assignments: tuple[tuple[str, WireAssignment], ...]  # (device, its assignment)
    blobs: tuple[BlobRef, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafOutcome:
    """One device's part in a partial."""

    device: str
    counted: bool
    time_s: float
    report: DeviceReport | None = None
    scores_bytes: int = 0
    message: str = ""
    fold_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialSubmission:
    """What became of assignments below an edge."""

    round: int
    number: int
    partial: BlobRef | None
    scores: BlobRef | None
    leaves: tuple[LeafOutcome, ...]

    @property
    def counted(self) -> tuple[str, ...]:
        """Devices whose update is in the partial."""
        return tuple(leaf.device for leaf in self.leaves if leaf.counted)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialVerdict:
    """The word on a partial; with OVERLAP, `devices` are counted already."""

    round: int
    number: int
    verdict: Verdict
    devices: tuple[str, ...] = ()
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Blobs an edge can serve without asking above."""

    blobs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocations:
    """Which certificates hold no more: an X.509 CRL (DER), on its way to an edge."""

    crl: bytes = field(repr=False)


TierUpward = LeafJoin | LeafLeft | PartialSubmission | Holding
TierDownward = LeafJoined | LeafRefused | LeafDismissed | RoundShare | PartialVerdict | Revocations

AnyUpward = Upward | TierUpward  # what a stream carries up, from whomever
AnyDownward = Downward | TierDownward
