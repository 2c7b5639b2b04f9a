"""Messages between an edge and the tier above it as plain frozen values. Fields: protos/v1/tier.proto."""

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
    """A device has left this edge; `lost`: its lease has run out, `revoked`: its certificate was revoked."""

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
    """The join of a device below an edge was refused; `error` is the error's class, as if the device had called."""

    device: str
    error: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafDismissed:
    """A session of a device below an edge ends; no goodbye means that the device has joined elsewhere."""

    device: str
    epoch: int
    goodbye: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TierSpec:
    """The aggregator and adapter shapes that an edge verifies and folds updates with."""

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
    """The outcome of one device below an edge: its report, or why it is not counted."""

    device: str
    counted: bool
    time_s: float
    report: DeviceReport | None = None
    scores_bytes: int = 0
    message: str = ""
    fold_s: float = 0.0
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialSubmission:
    """The outcomes of assignments below an edge, with the partial aggregate of the counted ones."""

    round: int
    number: int
    partial: BlobRef | None
    scores: BlobRef | None
    leaves: tuple[LeafOutcome, ...]

    @property
    def counted(self) -> tuple[str, ...]:
        """The devices with an update in the partial."""
        return tuple(leaf.device for leaf in self.leaves if leaf.counted)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartialVerdict:
    """The verdict on a partial; with OVERLAP, `devices` are counted already."""

    round: int
    number: int
    verdict: Verdict
    devices: tuple[str, ...] = ()
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """Blobs that an edge can serve without asking the tier above."""

    blobs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Revocations:
    """The revoked certificates for an edge, as an X.509 CRL (DER)."""

    crl: bytes = field(repr=False)


TierUpward = LeafJoin | LeafLeft | PartialSubmission | Holding
TierDownward = LeafJoined | LeafRefused | LeafDismissed | RoundShare | PartialVerdict | Revocations

AnyUpward = Upward | TierUpward  # all that a stream carries up, from a device, an evaluator or an edge
AnyDownward = Downward | TierDownward
