"""The state of a policy between rounds, as typed values; JSON in the ledger alone.

`PolicyState.from_json` reads every state that an earlier version wrote. The keys of the JSON never change:

    {"order":        {scope key: removal order} (fedcore.core.pruning.scope),
     "bandits":      {class, or device where posteriors are not shared: bandit state},
     "committed":    {device: [head units, channels, and removed layers if any] of the last accepted update},
     "memory_scale": {class: measured / estimated peak memory},
     "memory_ceilings": {device: modelled MiB that it may be given at most}, missing where none ran out,
     "counted":      rounds that have moved the adapter: all but void ones,
     "pace":         {"speeds": {"devices": {device: [compute, down, up, other]}, "classes": {class: the same},
                                 "trials": [compute, down, up]},
                      "multiplier": of the excess}, null where nothing keeps a pace,
     "rate":         {"rate": of the first round or null, "shift": of the ladder, "rounds": with trials, "run_steps": s,
                      "trials": {device: {"rates", "steps"}}}, missing where the configuration sets the rate,
     "open":         {"round": r, "budget_s": s,
                      "devices": {device: {"counts", "weight", "bandit_key", "order", "model_s",
                                           "mode" where it is not plain,
                                           "trains" where not everything does,
                                           with a pace "demand" and "tried", and where they matter "told", "context"}}}}

The records of devices are named tuples made by position. There is one for every device of every round, and a dataclass
or a call by keywords takes more than twice as long. Removal orders and bandits' states stay JSON here: only
`fedcore.core.pruning.ordering` and the bandit read them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from fedcore.core.contract.protocols import Json
from fedcore.core.contract.rate_trial import RateTrial
from fedcore.core.cost.training_step import PLAIN, StepMode
from fedcore.core.errors import RunError
from fedcore.core.model.geometry import Counts
from fedcore.core.model.trained_part import EVERYTHING, Factors, TrainedPart
from fedcore.strategies.policy.cost import Demand
from fedcore.strategies.policy.device_table import DeviceTable
from fedcore.strategies.policy.speed import SelfMeasured, Speed, Speeds

_CACHED_PARTS = 64  # a cohort's devices train one part or a few


class PacedWork(NamedTuple):
    """The record of a device's work that a pacer needs when the round closes."""

    demand: Demand
    self_measured: SelfMeasured
    declared: Speed | None = None  # where speeds are learned from profiles
    context: tuple[float, ...] | None = None  # as the bandit saw it, where it sees one

    @staticmethod
    def from_json(record: Json) -> "PacedWork":
        """Return the work in a device's record."""
        return PacedWork(
            Demand(*record["demand"]),
            SelfMeasured(*record["tried"]),
            Speed(*record["told"]) if "told" in record else None,
            tuple(record["context"]) if "context" in record else None,
        )

    def to_json(self) -> Json:
        """Return its keys in a device's record."""
        record: Json = {"demand": list(self.demand), "tried": list(self.self_measured)}
        if self.declared is not None:
            record["told"] = list(self.declared)
        if self.context is not None:
            record["context"] = list(self.context)
        return record


class PlannedDevice(NamedTuple):
    """A device's planned work in the open round."""

    counts: Counts  # that it keeps
    weight: int  # in the aggregate, and of its scores
    bandit_key: str
    order_key: str  # of the removal order it is cut along
    model_s: float  # modelled seconds of its round
    part: TrainedPart = EVERYTHING  # of the adapter
    pace: PacedWork | None = None  # None where nothing keeps a pace
    mode: StepMode = PLAIN

    @property
    def context(self) -> tuple[float, ...]:
        """The device's features for the bandit; empty without any."""
        return () if self.pace is None or self.pace.context is None else self.pace.context

    @staticmethod
    def from_json(record: Json) -> "PlannedDevice":
        """Return what `to_json` wrote."""
        return PlannedDevice(
            Counts(*record["counts"]),
            record["weight"],
            record["bandit_key"],
            record["order"],
            record["model_s"],
            part_from_json(record),
            PacedWork.from_json(record) if "demand" in record else None,
            StepMode(*record["mode"]) if "mode" in record else PLAIN,
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        record: Json = {
            "counts": self.counts.cells(),
            "weight": self.weight,
            "bandit_key": self.bandit_key,
            "order": self.order_key,
            "model_s": self.model_s,
        }
        if self.mode != PLAIN:
            record["mode"] = list(self.mode)
        if not self.part.everything:
            record.update(part_json(self.part))
        if self.pace is not None:
            record.update(self.pace.to_json())
        return record


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRound:
    """The round that is open; `budget_s` is None where nothing keeps a pace, and while no speed is known."""

    round: int
    budget_s: float | None
    devices: Mapping[str, PlannedDevice]

    @staticmethod
    def from_json(value: Json) -> "PlannedRound":
        """Return what `to_json` wrote."""
        return PlannedRound(
            round=value["round"],
            budget_s=value.get("budget_s"),
            devices={device: PlannedDevice.from_json(record) for device, record in value["devices"].items()},
        )

    def to_json(self) -> Json:
        """Return the JSON form."""
        devices = {device: planned.to_json() for device, planned in self.devices.items()}
        return {"round": self.round, "budget_s": self.budget_s, "devices": devices}


@dataclass(frozen=True, slots=True, kw_only=True)
class PaceState:
    """The state of a pacer: learned speeds, and the multiplier of the excess over a round's budget."""

    speeds: Speeds
    multiplier: float

    @staticmethod
    def from_json(value: Json) -> "PaceState":
        """Return what `to_json` wrote."""
        return PaceState(speeds=Speeds.from_json(value["speeds"]), multiplier=value["multiplier"])

    def to_json(self) -> Json:
        """Return the JSON form."""
        return {"speeds": self.speeds.to_json(), "multiplier": self.multiplier}


@dataclass(frozen=True, slots=True, kw_only=True)
class RateState:
    """The state of the search for a learning rate (fedcore.strategies.policy.rate_finder)."""

    rate: float | None = None  # of the first round; None while trials go on
    shift: int = 0  # rungs by which the next trial's ladder is moved
    rounds: int = 0  # closed rounds with trials
    run_steps: int = 0  # of a device in the whole run, as the open round's trials assume
    trials: Mapping[str, RateTrial] = field(default_factory=dict)  # of the open round by device

    @staticmethod
    def from_json(value: Json) -> "RateState":
        """Return what `to_json` wrote."""
        trials = {
            device: RateTrial(rates=tuple(trial["rates"]), steps=trial["steps"])
            for device, trial in value["trials"].items()
        }
        numbers = {key: value[key] for key in ("rate", "shift", "rounds", "run_steps")}
        return RateState(**numbers, trials=trials)

    def to_json(self) -> Json:
        """Return the JSON form."""
        trials = {device: {"rates": list(trial.rates), "steps": trial.steps} for device, trial in self.trials.items()}
        return {
            "rate": self.rate,
            "shift": self.shift,
            "rounds": self.rounds,
            "run_steps": self.run_steps,
            "trials": trials,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyState:
    """All that a policy has learned, and the open round."""

    orders: Mapping[str, Json]  # removal orders by scope key
    bandits: Mapping[str, Json] = field(default_factory=dict)  # states by bandit key
    committed: DeviceTable[Counts] = field(default_factory=lambda: DeviceTable(Counts))
    memory_scale: Mapping[str, float] = field(default_factory=dict)  # measured / estimated peak, by class
    memory_ceilings: Mapping[str, float] = field(default_factory=dict)  # of devices that ran out, modelled MiB
    counted: int | None = 0  # rounds that have moved the adapter; None: an earlier version did not count them
    pace: PaceState | None = None  # None where nothing keeps a pace
    rate: RateState | None = None  # None where the configuration sets the rate
    open: PlannedRound | None = None

    def counted_before(self, round_index: int) -> int:
        """Return the number of earlier rounds that moved the adapter; all earlier rounds if they were not counted."""
        return round_index - 1 if self.counted is None else self.counted

    def planned(self, round_index: int, devices: Iterable[str]) -> PlannedRound:
        """Return the open round; raises RunError for another round, or one that lacks a device of `devices`."""
        planned, number = ({}, None) if self.open is None else (self.open.devices, self.open.round)
        unassigned = sorted(set(devices) - set(planned))
        if self.open is None or number != round_index or unassigned:
            raise RunError(
                f"cannot close round {round_index}: the plan is for round {number} and has no assignment for "
                f"{', '.join(unassigned) or 'nobody'}; plan the round again from the last committed state"
            )
        return self.open

    @staticmethod
    def from_json(value: Json) -> "PolicyState":
        """Return what `to_json` wrote, in this version or an earlier one; raises RunError for anything else."""
        try:
            pace, rate, opened = value["pace"], value.get("rate"), value["open"]
            return PolicyState(
                orders=value["order"],
                bandits=value["bandits"],
                committed=DeviceTable(Counts, value["committed"]),
                memory_scale=value["memory_scale"],
                memory_ceilings=value.get("memory_ceilings", {}),
                counted=value.get("counted"),
                pace=None if pace is None else PaceState.from_json(pace),
                rate=None if rate is None else RateState.from_json(rate),
                open=None if opened is None else PlannedRound.from_json(opened),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as cause:
            raise RunError(
                f"the strategy's state is not in this version's form ({type(cause).__name__}: {cause}); continue the "
                "run with the version it was begun with, or start a new one"
            ) from None

    def to_json(self) -> Json:
        """Return the JSON form, for the ledger."""
        return {
            "order": dict(self.orders),
            "bandits": dict(self.bandits),
            "committed": self.committed.to_json(),
            "memory_scale": dict(self.memory_scale),
            **({"memory_ceilings": dict(self.memory_ceilings)} if self.memory_ceilings else {}),
            **({} if self.counted is None else {"counted": self.counted}),
            "pace": None if self.pace is None else self.pace.to_json(),
            **({} if self.rate is None else {"rate": self.rate.to_json()}),
            "open": None if self.open is None else self.open.to_json(),
        }


def part_json(part: TrainedPart) -> Json:
    """Return the JSON keys of a trained part in states and events: none where all of it trains."""
    if part.everything:
        return {}
    return {"trains": {"factors": str(part.factors), "first_layer": part.first_layer}}


def part_from_json(record: Json) -> TrainedPart:
    """Return the part in a record with the keys of `part_json`."""
    if "trains" not in record:
        return EVERYTHING
    trains = record["trains"]
    return _part(trains["factors"], trains["first_layer"])


@lru_cache(_CACHED_PARTS)
def _part(factors: str, first_layer: int) -> TrainedPart:
    return TrainedPart(factors=Factors(factors), first_layer=first_layer)
