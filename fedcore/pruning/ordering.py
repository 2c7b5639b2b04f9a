"""The fleet's one nested removal order, as a JSON value, and the pure operations on it.

The state is

    {"heads":    [layer: {"order": [unit, first removed first], "scores": [by unit]}],
     "channels": [layer: {"order": [channel, ...],              "scores": [by channel]}],
     "frozen":   [head units, channels],    prefix of every layer's order that never changes again
     "rounds":   how often scores were absorbed}

A keep-set is the complement of a prefix, so a sparser one always lies inside a denser one. Whatever was removed
anywhere is frozen: every group behind the frozen prefix is held by all devices, so all of them can score it.
Scores keep six significant digits, which the JSON form holds exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcore.errors import ConfigError
from fedcore.geometry import Geometry
from fedcore.keep_set import KeepSet
from fedcore.outcome import GroupScores
from fedcore.protocols import Json
from fedcore.pruning.score_check import verify_scores

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredGroups:
    """What one device measured: scores of the groups in `keep_set`, counted with `weight` >= 1."""

    scores: GroupScores
    keep_set: KeepSet
    weight: int


def initial_order(geometry: Geometry, prior: GroupScores | None = None) -> Json:
    """Return the order before any device scored: ascending by `prior` (one score per group), else by index.

    Raises UpdateRejected where `prior` has other shapes than the dense model.
    """
    if prior is not None:
        verify_scores(prior, KeepSet.full(geometry))
    return {
        "heads": _initial(geometry.layers, geometry.head_units, None if prior is None else prior.heads),
        "channels": _initial(geometry.layers, geometry.ffn, None if prior is None else prior.channels),
        "frozen": [0, 0],
        "rounds": 0,
    }


def absorb(state: Json, geometry: Geometry, measured: Sequence[ScoredGroups], smoothing: float) -> Json:
    """Return the state after a round's scores, with everything behind the frozen prefix ordered anew.

    Per layer and group: the mean over the devices that hold it, by weight, then a moving average over rounds,
    S <- a S + (1 - a) mean, with a = min(`smoothing`, n / (n + 1)) after n rounds: a plain mean over the first
    rounds, in which the first measurement replaces the prior. A device normalises each layer to L2 norm 1 over
    the groups it holds, so one that holds fewer scores each of them higher; its vector is therefore scaled to
    the norm the fleet's scores have over the same groups. Groups nobody scored keep their score. Raises
    ConfigError unless 0 <= `smoothing` < 1 and UpdateRejected where scores do not fit their keep-set.
    """
    if not 0.0 <= smoothing < 1.0:
        raise ConfigError(f"smoothing must be in [0, 1), got {smoothing}")
    if not measured:
        return state
    for each in measured:
        verify_scores(each.scores, each.keep_set)
    keep = min(smoothing, state["rounds"] / (state["rounds"] + 1))
    rows = {"heads": [], "channels": []}  # type: dict[str, list[Json]]
    for layer in range(geometry.layers):
        heads = [(each.keep_set.heads[layer], each.scores.heads[layer], each.weight) for each in measured]
        channels = [(each.keep_set.channels[layer], each.scores.channels[layer], each.weight) for each in measured]
        rows["heads"].append(_absorb(state["heads"][layer], heads, keep, state["frozen"][0]))
        rows["channels"].append(_absorb(state["channels"][layer], channels, keep, state["frozen"][1]))
    return {**state, **rows, "rounds": state["rounds"] + 1}


def freeze(state: Json, *, heads_removed: int, channels_removed: int) -> Json:
    """Return the state whose frozen prefixes are at least so long; they never shrink."""
    heads, channels = state["frozen"]
    return {**state, "frozen": [max(heads, heads_removed), max(channels, channels_removed)]}


def keep_set(state: Json, geometry: Geometry, counts: tuple[int, int]) -> KeepSet:
    """Return what stays when all but `counts` = (head units, channels) of every layer's order are removed.

    Raises ConfigError where a count is below 1 or above the dense model's.
    """
    heads, channels = counts
    if not (1 <= heads <= geometry.head_units and 1 <= channels <= geometry.ffn):
        raise ConfigError(
            f"keep counts {counts}: expected 1-{geometry.head_units} head units and 1-{geometry.ffn} channels"
        )
    return KeepSet(
        heads=tuple(tuple(sorted(row["order"][geometry.head_units - heads :])) for row in state["heads"]),
        channels=tuple(tuple(sorted(row["order"][geometry.ffn - channels :])) for row in state["channels"]),
    )


def _initial(layers: int, size: int, prior: Sequence[NDArray[np.float32]] | None) -> list[Json]:
    flat = np.ones(size)
    return [_row(_unit_norm(flat if prior is None else prior[layer].astype(np.float64)), []) for layer in range(layers)]


def _absorb(
    row: Json, measured: Sequence[tuple[tuple[int, ...], NDArray[np.float32], int]], keep: float, frozen: int
) -> Json:
    known: Vector = np.asarray(row["scores"], dtype=np.float64)
    total, weights = np.zeros_like(known), np.zeros_like(known)
    for kept, scores, weight in measured:
        held = np.asarray(kept, dtype=np.int64)
        norm = float(np.linalg.norm(scores.astype(np.float64)))
        if norm == 0.0:
            continue  # a layer without any signal says nothing about the order
        share = float(np.linalg.norm(known[held])) or np.sqrt(len(held) / len(known))
        total[held] += weight * scores.astype(np.float64) * (share / norm)
        weights[held] += weight
    scored = weights > 0
    mean = np.divide(total, weights, out=known.copy(), where=scored)
    return _row(_unit_norm(np.where(scored, keep * known + (1.0 - keep) * mean, known)), row["order"][:frozen])


def _row(scores: Vector, frozen: list[int]) -> Json:
    """Order by ascending score, ties by index, behind a prefix that stays."""
    digits = [float(f"{value:.6g}") for value in scores.tolist()]
    fixed = set(frozen)
    rest = [int(index) for index in np.argsort(np.asarray(digits), kind="stable") if int(index) not in fixed]
    return {"order": [*frozen, *rest], "scores": digits}


def _unit_norm(scores: Vector) -> Vector:
    norm = float(np.linalg.norm(scores))
    return scores / norm if norm > 0.0 else np.full_like(scores, 1.0 / np.sqrt(len(scores)))
