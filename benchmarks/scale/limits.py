"""Where the design breaks first: every limit with its budget, and the size at which it is used up."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.scale.costs import UnitCosts
from benchmarks.scale.fleet import PATIENCE_S, ROUND_S, beats_per_s, largest, payload
from fedcore.core.aggregation.sums.fixed_point import MAX_TOTAL_WEIGHT
from fedcore.protos.wire import MAX_MESSAGE_BYTES

ROOT_MEMORY_MB = 16_000.0
ROOT_LINK_BYTES_PER_S = 125e6  # 1 Gbit/s
TURN_SHARE = 0.1  # of a round's time for the turn between rounds
STATE_BYTES = 100e6  # written with every commit
COHORT = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """One thing that runs out, and when."""

    what: str
    budget: str
    of: str  # what is counted
    at: int


def limits(costs: UnitCosts) -> list[Limit]:
    """Return every limit, of registered devices first, the smallest first."""
    found = [*_of_roster(costs), *_of_cohort(costs)]
    return sorted(found, key=lambda limit: (limit.of != "devices", limit.at))


def _of_roster(costs: UnitCosts) -> list[Limit]:
    def limit(what: str, budget: str, fits: Callable[[int], bool]) -> Limit:
        return Limit(what=what, budget=budget, of="devices", at=largest(fits))

    return [
        limit(
            "signs of life at the root, through edges",
            "one core",
            lambda devices: beats_per_s(devices) * costs.alive_s(devices) <= 1,
        ),
        limit(
            "joins at the root, through edges, after its restart",
            f"{PATIENCE_S:g} s",
            lambda devices: costs.seating_s(devices) <= PATIENCE_S,
        ),
        limit(
            "signs of life, no edges",
            "one core",
            lambda devices: beats_per_s(devices) * (costs.beat_cpu_s + costs.alive_s(devices)) <= 1,
        ),
        limit(
            "handshakes after a restart, no edges",
            f"{PATIENCE_S:g} s of one core",
            lambda devices: devices * costs.join_cpu_s <= PATIENCE_S,
        ),
        limit(
            "memory for streams, no edges",
            f"{ROOT_MEMORY_MB / 1000:g} GB",
            lambda devices: costs.process_mb + devices * costs.member_mb <= ROOT_MEMORY_MB,
        ),
        limit(
            f"the turn between rounds of {COHORT:,}",
            f"{TURN_SHARE * ROUND_S:g} s",
            lambda devices: costs.turn_s(devices, COHORT) <= TURN_SHARE * ROUND_S,
        ),
        limit(
            "the strategy's state in every commit",
            f"{STATE_BYTES / 1e6:g} MB",
            lambda devices: devices * costs.state_bytes <= STATE_BYTES,
        ),
    ]


def _of_cohort(costs: UnitCosts) -> list[Limit]:
    scores = payload(costs).scores

    def limit(what: str, budget: str, fits: Callable[[int], bool], of: str = "cohort") -> Limit:
        return Limit(what=what, budget=budget, of=of, at=largest(fits))

    return [
        limit(
            "outcomes in one message of an edge",
            f"{MAX_MESSAGE_BYTES >> 20} MiB",
            lambda cohort: cohort * costs.leaf_bytes <= MAX_MESSAGE_BYTES,
            "cohort per edge",
        ),
        limit(
            "the turn between rounds, of the cohort alone",
            f"{TURN_SHARE * ROUND_S:g} s",
            lambda cohort: costs.turn_s(0, cohort) <= TURN_SHARE * ROUND_S,
        ),
        limit(
            "importances at the root, unreduced",
            f"{TURN_SHARE * ROUND_S:g} s at 1 Gbit/s",
            lambda cohort: cohort * scores <= TURN_SHARE * ROUND_S * ROOT_LINK_BYTES_PER_S,
        ),
        limit("total weight of exact integer sums", f"{MAX_TOTAL_WEIGHT:,}", lambda cohort: cohort <= MAX_TOTAL_WEIGHT),
    ]
