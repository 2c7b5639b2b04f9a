"""One nested removal order, as a JSON value, and the pure operations on it.

Theory. Pruning is physical: a removed group is gone on its device, so a device's next keep-set must lie inside its last
one. Devices of different sparsities must nest as well, because they share one adapter. One order serves both: a
keep-set is the complement of a prefix of the order, so a sparser keep-set always lies inside a denser one. New scores
may reorder only groups that no device has removed: `freeze` fixes the removed prefix, `absorb` orders the rest anew.
Every group after the frozen prefix is kept by all devices that share the order, so all of them can score it.

The state is

    {"heads":    {"scores": [layer, unit],    "frozen": [layer, place]},
     "channels": {"scores": [layer, channel], "frozen": [layer, place]},
     "rounds":   number of rounds with absorbed scores}

with matrices as base64 text: scores are little-endian float32, frozen groups little-endian uint32, first removed first.
The order of a layer is its frozen groups, then all others by ascending score, ties by index.

Where `strategy.remove` is another choice than heads and channels, the state has three keys more:

    {"remove": ["channels", "heads", "layers"], some of them,
     "layers": influences and order of whole layers (fedcore.core.pruning.depth),
     "moves":  the part of the path that is fixed (fedcore.core.pruning.path)}
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fedcore.core.contract.outcome import GroupScores
from fedcore.core.contract.protocols import Json
from fedcore.core.errors import ConfigError, RunError
from fedcore.core.model.geometry import Counts, Geometry
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.pruning.counts import keep_counts
from fedcore.core.pruning.depth import (
    absorb_influences,
    freeze_layers,
    influences,
    initial_depth,
    layer_order,
    mean_depth,
)
from fedcore.core.pruning.kinds import WIDTH, by_benefit
from fedcore.core.pruning.path import Harms, Path, make_path
from fedcore.core.pruning.score_check import verify_scores

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]  # (layers, groups)
Places = NDArray[np.int64]  # (layers, places), of group indices

_CACHED_PATHS = 8  # a round asks for the path of one order again and again

SCORE, GROUP = np.dtype("<f4"), np.dtype("<u4")  # types in the JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredGroups:
    """One device's measurement: scores of the groups in `keep_set`, counted with `weight` >= 1."""

    scores: GroupScores
    keep_set: KeepSet
    weight: int


def initial_order(geometry: Geometry, prior: GroupScores | None = None, remove: Sequence[str] = WIDTH) -> Json:
    """Return the order before any device scored: ascending by `prior` (one score per group), else by index.

    `remove` has the kinds of groups that may go (fedcore.core.pruning.kinds).

    Raises UpdateRejected where `prior` has other shapes than the dense model.
    """
    if prior is not None:
        verify_scores(prior, KeepSet.full(geometry))
    return {
        "heads": _initial(geometry.layers, geometry.head_units, None if prior is None else prior.heads),
        "channels": _initial(geometry.layers, geometry.ffn, None if prior is None else prior.channels),
        "rounds": 0,
        **(
            {"remove": sorted(remove), "layers": initial_depth(geometry.layers), "moves": ""}
            if by_benefit(remove)
            else {}
        ),
    }


def counts_at(state: Json, geometry: Geometry, sparsity: float) -> Counts:
    """Return the counts that realise `sparsity` along the order; raises ConfigError outside [0, 1)."""
    return _path(state, geometry).at(sparsity) if "remove" in state else keep_counts(geometry, sparsity)


def absorb(state: Json, geometry: Geometry, measured: Sequence[ScoredGroups], smoothing: float) -> Json:
    """Return the state after a round's scores, with all groups after the frozen prefix ordered anew.

    Per layer and group: the mean over the devices that keep it, by weight, then a moving average over rounds,
    S <- a S + (1 - a) mean, with a = min(`smoothing`, n / (n + 1)) after n rounds: a plain mean over the first
    rounds, in which the first measurement replaces the prior. A device normalises each layer to L2 norm 1 over
    the groups it keeps, so one that keeps fewer scores each of them higher; its vector is therefore scaled to
    the norm of the known scores over the same groups. Groups that no device scored keep their score. Raises
    ConfigError unless 0 <= `smoothing` < 1 and UpdateRejected where scores do not fit their keep-set.
    """
    if not 0.0 <= smoothing < 1.0:
        raise ConfigError(f"smoothing must be in [0, 1), got {smoothing}")
    if not measured:
        return state
    for scored in measured:
        verify_scores(scored.scores, scored.keep_set)
    keep = min(smoothing, state["rounds"] / (state["rounds"] + 1))
    after: Json = {"rounds": state["rounds"] + 1}
    if "remove" in state:
        after |= {"remove": state["remove"], "moves": state["moves"]}
        seen = [(m.keep_set.layers, m.scores.layers, m.weight) for m in measured if m.scores.layers is not None]
        after["layers"] = absorb_influences(state["layers"], seen, keep)
    for kind, (scores, frozen) in _read(state, geometry).items():
        rows = []
        for layer in range(geometry.layers):
            scored_rows = [
                (getattr(m.keep_set, kind)[layer], getattr(m.scores, kind)[layer], m.weight) for m in measured
            ]
            rows.append(_absorb(scores[layer], scored_rows, keep))
        after[kind] = _written(np.stack(rows), frozen)
    return after


def freeze(state: Json, geometry: Geometry, removed: Counts) -> Json:
    """Return the state whose frozen prefixes are at least as long as `removed` groups; they never shrink."""
    after = dict(state)
    if "remove" in state:
        after["moves"] = max(state["moves"], _path(state, geometry).moves_to(removed), key=len)
        after["layers"] = freeze_layers(state["layers"], removed.removed_layers)
    for kind, (scores, frozen) in _read(state, geometry).items():
        length: int = getattr(removed, kind)
        if length > frozen.shape[1]:
            after[kind] = _written(scores, _order(scores, frozen)[:, :length])
    return after


def keep_set(state: Json, geometry: Geometry, counts: Counts) -> KeepSet:
    """Return the keep-set after all but `counts` of every layer's order are removed.

    Raises ConfigError where a count is below 1 or above the dense model's, or no layer is left.
    """
    return keep_sets(state, geometry, [counts])[counts]


def keep_sets(state: Json, geometry: Geometry, all_counts: Iterable[Counts]) -> dict[Counts, KeepSet]:
    """Return the keep-set of each of `all_counts`; raises as `keep_set` does."""
    order = removal_order(state, geometry)
    layers = layer_order(state["layers"]) if "layers" in state else tuple(range(geometry.layers))
    result: dict[Counts, KeepSet] = {}
    for counts in all_counts:
        _check_counts(counts, geometry)
        gone = frozenset(layers[: counts.removed_layers])
        result[counts] = KeepSet(
            heads=_kept(order["heads"], geometry.head_units - counts.heads, gone),
            channels=_kept(order["channels"], geometry.ffn - counts.channels, gone),
        )
    return result


def _check_counts(counts: Counts, geometry: Geometry) -> None:
    fits = 1 <= counts.heads <= geometry.head_units and 1 <= counts.channels <= geometry.ffn
    if not (fits and 0 <= counts.removed_layers < geometry.layers):
        raise ConfigError(
            f"keep counts {tuple(counts)}: expected 1-{geometry.head_units} head units and"
            f" 1-{geometry.ffn} channels, and fewer than {geometry.layers} removed layers"
        )


def removal_order(state: Json, geometry: Geometry) -> dict[str, Places]:
    """Return "heads" and "channels" of every layer, first removed first, (layers, groups)."""
    return {kind: _order(scores, frozen) for kind, (scores, frozen) in _read(state, geometry).items()}


def known_scores(state: Json, geometry: Geometry) -> GroupScores:
    """Return the averaged scores of every group, each layer's at L2 norm 1."""
    read = {kind: scores.astype(np.float32) for kind, (scores, _) in _read(state, geometry).items()}
    return GroupScores(heads=tuple(read["heads"]), channels=tuple(read["channels"]))


def frozen_counts(state: Json, geometry: Geometry) -> Counts:
    """Return the number of groups in every layer's order that never move again."""
    read = _read(state, geometry)
    gone = state["moves"].count("l") if "moves" in state else 0
    return Counts(heads=read["heads"][1].shape[1], channels=read["channels"][1].shape[1], removed_layers=gone)


def mean_order(states: Sequence[Json], geometry: Geometry) -> Json:
    """Return one order by the mean of several orders' scores, each counted once; a single order as it is.

    Raises ValueError for no order.
    """
    if len(states) == 1:
        return states[0]
    if not states:
        raise ValueError("no order to average; give at least one")
    read = [_read(state, geometry) for state in states]
    return {
        **{kind: _written(np.mean([order[kind][0] for order in read], axis=0), _nothing(geometry)) for kind in read[0]},
        "rounds": max(state["rounds"] for state in states),
        **(
            {"remove": states[0]["remove"], "layers": mean_depth([state["layers"] for state in states]), "moves": ""}
            if "remove" in states[0]
            else {}
        ),
    }


def _initial(layers: int, size: int, prior: Sequence[NDArray[np.float32]] | None) -> Json:
    flat = np.ones(size)
    rows = [_unit_norm(flat if prior is None else prior[layer].astype(np.float64)) for layer in range(layers)]
    return _written(np.stack(rows), np.empty((layers, 0), dtype=np.int64))


def _absorb(known: Vector, measured: Sequence[tuple[tuple[int, ...], NDArray[np.float32], int]], keep: float) -> Vector:
    total, weights = np.zeros_like(known), np.zeros_like(known)
    for kept, scores, weight in measured:
        places = np.asarray(kept, dtype=np.int64)
        norm = float(np.linalg.norm(scores.astype(np.float64)))
        if norm == 0.0:
            continue  # a layer of zero scores has no information on the order
        share = float(np.linalg.norm(known[places])) or np.sqrt(len(places) / len(known))
        total[places] += weight * scores.astype(np.float64) * (share / norm)
        weights[places] += weight
    scored = weights > 0
    mean = np.divide(total, weights, out=known.copy(), where=scored)
    return _unit_norm(np.where(scored, keep * known + (1.0 - keep) * mean, known))


def _order(scores: Matrix, frozen: Places) -> Places:
    """Return groups by ascending score, ties by index, after the frozen prefix; scores are never negative."""
    keys = scores.copy()
    places = np.broadcast_to(np.arange(frozen.shape[1]) - float(frozen.shape[1]), frozen.shape)
    np.put_along_axis(keys, frozen, places, axis=1)
    return np.argsort(keys, axis=1, kind="stable")


def _kept(order: Places, removed: int, gone: frozenset[int]) -> tuple[tuple[int, ...], ...]:
    rows = np.sort(order[:, removed:], axis=1).tolist()
    return tuple(() if layer in gone else tuple(row) for layer, row in enumerate(rows))


def _path(state: Json, geometry: Geometry) -> Path:
    """Return the order's path; computing it takes milliseconds, and whoever plans a round asks for it often."""
    texts = tuple(state[kind][part] for kind in ("heads", "channels", "layers") for part in ("scores", "frozen"))
    return _cached_path(geometry, texts, tuple(state["remove"]), state["moves"])


@lru_cache(_CACHED_PATHS)
def _cached_path(geometry: Geometry, texts: tuple[str, ...], remove: tuple[str, ...], fixed: str) -> Path:
    names = ((kind, part) for kind in ("heads", "channels", "layers") for part in ("scores", "frozen"))
    state: Json = {}
    for (kind, part), text in zip(names, texts, strict=True):
        state.setdefault(kind, {})[part] = text
    heads, channels = (_shares(*_read(state, geometry)[kind]) for kind in ("heads", "channels"))
    harms = Harms(
        geometry=geometry,
        head_shares=heads,
        channel_shares=channels,
        influences=influences(state["layers"]),
        layer_order=layer_order(state["layers"]),
        remove=remove,
    )
    return make_path(harms, fixed)


def _shares(scores: Matrix, frozen: Places) -> Matrix:
    """Return each group's share of its layer's scores, in removal order, (layers, groups)."""
    shares = np.take_along_axis(scores, _order(scores, frozen), axis=1)
    total = shares.sum(axis=1, keepdims=True)
    return np.where(total > 0, shares / np.where(total > 0, total, 1.0), 1.0 / shares.shape[1])


def _read(state: Json, geometry: Geometry) -> dict[str, tuple[Matrix, Places]]:
    """Return (scores, frozen) of "heads" and "channels"."""
    try:
        return {
            kind: (
                _matrix(state[kind]["scores"], SCORE, geometry.layers).astype(np.float64),
                _matrix(state[kind]["frozen"], GROUP, geometry.layers).astype(np.int64),
            )
            for kind in ("heads", "channels")
        }
    except (KeyError, TypeError, ValueError) as cause:
        raise RunError(
            f"the removal order is not in this version's form ({type(cause).__name__}: {cause}); continue the run with "
            "the version it was begun with, or start a new one"
        ) from None


def _matrix(text: str, kind: np.dtype[np.generic], layers: int) -> NDArray[np.generic]:
    flat = np.frombuffer(base64.b64decode(text, validate=True), dtype=kind)
    return flat.reshape(layers, len(flat) // layers)


def _written(scores: Matrix, frozen: Places) -> Json:
    return {
        "scores": base64.b64encode(scores.astype(SCORE).tobytes()).decode(),
        "frozen": base64.b64encode(frozen.astype(GROUP).tobytes()).decode(),
    }


def _nothing(geometry: Geometry) -> Places:
    return np.empty((geometry.layers, 0), dtype=np.int64)


def _unit_norm(scores: Vector) -> Vector:
    norm = float(np.linalg.norm(scores))
    return scores / norm if norm > 0.0 else np.full_like(scores, 1.0 / np.sqrt(len(scores)))
