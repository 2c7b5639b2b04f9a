"""Stored results of a plan, by variant: what tables and figures are made of."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.fleet80.bits import unpacked
from benchmarks.fleet80.cases.variants import VARIANTS
from benchmarks.fleet80.plan import Plan
from benchmarks.fleet80.report.bootstrap import Scores
from benchmarks.fleet80.stored import Result, load, stored_names

_NAME = re.compile(r"(?P<variant>.+)-seed(?P<seed>\d+)-(?P<hash>[0-9a-f]+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One variant's results, by seed."""

    name: str
    group: str
    results: Mapping[int, Result]

    @property
    def runs(self) -> Sequence[Result]:
        """The results, in the order of their seeds."""
        return list(self.results.values())

    @property
    def prunes(self) -> bool:
        """Whether its devices are cut."""
        return bool(self.runs[0]["prunes"])

    def scores(self, seeds: Sequence[int]) -> Scores:
        """Return (seeds, rows): the share of the fleet whose delivered model has a row right."""
        return np.stack([_delivered_scores(self.results[seed]["final"]) for seed in seeds])

    def losses(self, seeds: Sequence[int]) -> Scores:
        """Return (seeds, rows): the loss of the delivered models of a fleet that writes."""
        return np.stack([_delivered_losses(self.results[seed]["final"]) for seed in seeds])


def entries(plan: Plan) -> tuple[list[Entry], int]:
    """Return what is stored of the plan, in its order, and how many stored results belong to other configurations."""
    found: dict[str, dict[int, Result]] = {name: {} for name in VARIANTS}
    stale = 0
    for stem in stored_names(plan.track.name, plan.results):
        match = _NAME.fullmatch(stem)
        if match is None:
            continue  # not a run's: such as latency.json
        name, seed = match["variant"], int(match["seed"])
        variant = VARIANTS.get(name)
        case = None if variant is None or plan.unknown(variant) else plan.case(variant, seed)
        result = load(case, plan.results) if case is not None and case.hash == match["hash"] else None
        if result is None:
            stale += 1
        else:
            found[name][seed] = result
    kept = [
        Entry(name=name, group=VARIANTS[name].group, results=dict(sorted(results.items())))
        for name, results in found.items()
        if results
    ]
    return kept, stale


def delivered(final: Mapping[str, Any], key: str) -> float:
    """Return a figure of the final models, weighted by the share of the fleet each is for."""
    return float(sum(model["share"] * model[key] for model in final.values()))


def _delivered_scores(final: Mapping[str, Any]) -> Scores:
    rows = next(iter(final.values()))["rows"]
    scores: Scores = np.zeros(rows)
    for model in final.values():
        if model["share"]:
            scores = scores + model["share"] * unpacked(model["right"], rows)
    return scores


def _delivered_losses(final: Mapping[str, Any]) -> Scores:
    losses: Scores = np.zeros(next(iter(final.values()))["rows"])
    for model in final.values():
        losses = losses + model["share"] * np.array(model["losses"])
    return losses
