"""The fleet that docs/concepts/scale.md is about, and what it asks for: plain arithmetic over unit costs."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.roster import HEAD, MINILM
from benchmarks.scale.costs import MB, UnitCosts
from fedcore.core.aggregation.factor_mean import FactorMean
from fedcore.core.model.adapter import AdapterSpec
from fedcore.core.model.geometry import geometry_from_config
from fedcore.transport.parent_connection import BEATS_PER_LEASE

LEASE_S = 30.0
ROUND_S = 120.0  # a round's deadline by default
PATIENCE_S = 300.0  # a member that lost its parent gives up after this
DAY_S = 86_400.0
RANK = 8  # of a device
SERVER_RANK = 16
EDGE_MEMORY_MB = 2_000.0
EDGE_CORE_SHARE = 0.5  # of one core for signs of life: the rest is for rounds
FLOAT_BYTES = 4


def spec() -> AdapterSpec:
    """The adapter of MiniLM with every linear layer adapted."""
    geometry = geometry_from_config(MINILM)
    return AdapterSpec(geometry=geometry, rank=SERVER_RANK, targets=geometry.modules, head=HEAD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """Bytes that one device's round moves."""

    down: float  # float32 rank blocks and the head
    up: float  # the encoded update
    scores: float  # group importances, float32, in rounds before a cut

    @property
    def both_mb(self) -> float:
        """MB of hand-out and update."""
        return (self.down + self.up) / MB


def payload(costs: UnitCosts) -> Payload:
    """Bytes of a device of RANK, nothing pruned."""
    adapter, geometry = spec(), geometry_from_config(MINILM)
    full = FLOAT_BYTES * adapter.num_values(rank=RANK)
    scores = FLOAT_BYTES * geometry.layers * (geometry.head_units + geometry.ffn)
    return Payload(down=full, up=full * costs.update_share, scores=scores)


def partial_bytes(devices: int) -> int:
    """Most bytes of one edge's partial that holds so many updates."""
    return FactorMean().packed_bytes_bound(spec(), devices)


def beats_per_s(members: float) -> float:
    """Signs of life per second of so many members."""
    return members * BEATS_PER_LEASE / LEASE_S


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeLoad:
    """What one edge carries."""

    members: int
    beats_per_s: float
    beats_core_share: float
    seat_s: float  # processor seconds until all devices have joined again after a restart
    memory_mb: float


def edge_load(costs: UnitCosts, members: int) -> EdgeLoad:
    """Load of an edge with so many devices below it, none of them in a round."""
    beats = beats_per_s(members)
    return EdgeLoad(
        members=members,
        beats_per_s=beats,
        beats_core_share=beats * costs.beat_cpu_s,
        seat_s=members * costs.join_cpu_s,
        memory_mb=costs.process_mb + members * costs.member_mb,
    )


def edge_fits(costs: UnitCosts, members: int) -> bool:
    """Whether an edge of two cores and EDGE_MEMORY_MB holds so many."""
    load = edge_load(costs, members)
    return load.beats_core_share <= EDGE_CORE_SHARE and load.seat_s <= PATIENCE_S and load.memory_mb <= EDGE_MEMORY_MB


def members_per_edge(costs: UnitCosts) -> int:
    """Most devices below one edge."""
    return largest(lambda members: edge_fits(costs, members))


def edges_needed(costs: UnitCosts, devices: int) -> int:
    """Edges for so many devices."""
    return math.ceil(devices / members_per_edge(costs))


def largest(fits: Callable[[int], bool], most: int = 1 << 40) -> int:
    """Return the largest count of at most `most` that fits, where every smaller one does too; 0 where none does."""
    low, high = 0, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundLoad:
    """What one round asks of edges and root."""

    cohort: int
    edges: int
    edge_cpu_s: float  # of each edge
    edge_mb: float  # through each edge's downward side, both ways
    root_up_mb: float  # partials
    root_scores_mb: float  # importances, in a round before a cut
    root_turn_s: float
    member_round_h: float  # hours between two rounds of one device


def round_load(costs: UnitCosts, devices: int, cohort: int) -> RoundLoad:
    """Load of one round of `cohort` out of `devices`, below as many edges as those need."""
    edges, moved = edges_needed(costs, devices), payload(costs)
    per_edge = cohort / edges
    return RoundLoad(
        cohort=cohort,
        edges=edges,
        edge_cpu_s=per_edge * (costs.client_round_cpu_s + moved.both_mb * costs.mb_cpu_s),
        edge_mb=per_edge * moved.both_mb,
        root_up_mb=edges * partial_bytes(math.ceil(per_edge)) / MB,
        root_scores_mb=cohort * moved.scores / MB,
        root_turn_s=costs.turn_s(devices, cohort),
        member_round_h=devices / cohort * ROUND_S / 3600,
    )


def gb_per_day(costs: UnitCosts, cohort: int) -> dict[str, float]:
    """Growth of a run's files at one round per ROUND_S, in GB a day."""
    client_rounds = cohort * DAY_S / ROUND_S
    return {
        "events.jsonl": client_rounds * costs.event_bytes / 1e9,
        "rounds.csv": client_rounds * costs.row_bytes / 1e9,
        "ledger.sqlite": client_rounds * costs.ledger_bytes / 1e9,
    }
