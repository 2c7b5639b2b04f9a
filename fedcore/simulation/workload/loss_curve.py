"""Losses without training: a curve fitted to a real run, for questions about bandits, deadlines and links.

    level(x, s) = floor + (start - floor) exp(-x / scale) + cost s^2

is a device's probe loss after x effective steps of the fleet at sparsity s; a round at rank r lowers it by

    drop(x, s, r, e) = (1 - (1 - gain)^e) (level(x, s) - floor) (r / r_max)^RANK_POWER,

e = its local steps / the run's, and the fleet's x grows by the mean of local steps x (r / r_max)^RANK_POWER over the
round's counted devices. The form is ours: exponential decay is the usual first model of a training loss, the square
keeps small cuts nearly free, as in measured exports. The curve says nothing of accuracy, aggregation or importance
criteria.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedcore.core.boundary import Boundary
from fedcore.core.errors import DataError

RANK_POWER = 0.25
_SCALES = np.geomspace(3.0, 3000.0, 200)  # effective steps tried when fitting
_NEEDED = ("round", "status", "sparsity", "rank", "loss_before", "loss_after")


@dataclass(frozen=True, slots=True, kw_only=True)
class LossCurve:
    """Losses in nats, `scale` in effective steps; `noise` is the spread of one device's loss drop."""

    start: float = 0.70
    floor: float = 0.35
    scale: float = 40.0
    cost: float = 0.25
    gain: float = 0.30
    noise: float = 0.03

    def level(self, progress: float, sparsity: float) -> float:
        """Return the probe loss before a round."""
        return self.floor + (self.start - self.floor) * math.exp(-progress / self.scale) + self.cost * sparsity**2

    def drop(
        self, progress: float, sparsity: float, rank_share: float, deviate: float = 0.0, *, effort: float = 1.0
    ) -> float:
        """Return how much a round lowers the probe loss.

        `deviate` is a standard normal number, `effort` the device's local steps over the run's.
        """
        gain = self.gain if effort == 1.0 else 1.0 - (1.0 - self.gain) ** effort
        mean = gain * (self.level(progress, sparsity) - self.floor) * effective(1.0, rank_share)
        return mean + self.noise * deviate


def effective(steps: float, rank_share: float) -> float:
    """Return the steps of a device as the fleet's progress counts them; `rank_share` is rank / largest rank."""
    return float(steps * rank_share**RANK_POWER)


def fit_curve(rows: Sequence[Mapping[str, float]], steps: int) -> LossCurve:
    """Return the curve of least squares through the counted devices of a run.

    A row has round (from 1), sparsity, rank, loss_before and loss_after; `steps` is the number of local steps of every
    device. Raises DataError for fewer than three rounds, which determine no curve.
    """
    rounds = sorted({int(row["round"]) for row in rows})
    if len(rounds) < 3:
        raise DataError(f"a loss curve needs at least 3 rounds with counted updates, got {len(rounds)}")
    largest = max(row["rank"] for row in rows)
    progress, total = {}, 0.0
    for number in rounds:
        progress[number] = total
        shares = [row["rank"] / largest for row in rows if int(row["round"]) == number]
        total += float(np.mean([effective(steps, share) for share in shares]))
    x = np.array([progress[int(row["round"])] for row in rows])
    s = np.array([row["sparsity"] for row in rows])
    before = np.array([row["loss_before"] for row in rows])
    after = np.array([row["loss_after"] for row in rows])
    scale, (floor, span, cost) = _best_scale(x, s, before)
    level = floor + span * np.exp(-x / scale) + cost * s**2
    reach = (level - floor) * np.array([effective(1.0, row["rank"] / largest) for row in rows])
    drops = before - after
    gain = float(np.clip(reach @ drops / max(float(reach @ reach), 1e-12), 0.0, 1.0))
    noise = float(np.std(drops - gain * reach))
    return LossCurve(start=floor + span, floor=floor, scale=scale, cost=cost, gain=gain, noise=noise)


def read_curve(run: Path, steps: int) -> LossCurve:
    """Fit the curve to the rounds.csv of an earlier run; raises DataError where it cannot be read or is too short."""
    path = run / "rounds.csv"
    remedy = "give the folder of a finished run"
    with (
        Boundary(DataError, f"cannot fit a loss curve to {path}", remedy=remedy),
        path.open(newline="", encoding="utf-8") as file,
    ):
        rows = [
            {name: float(row[name]) for name in _NEEDED if name != "status"}
            for row in csv.DictReader(file)
            if row["status"] == "accepted" and row["loss_before"]
        ]
        return fit_curve(rows, steps)


def _best_scale(
    x: NDArray[np.float64], s: NDArray[np.float64], loss: NDArray[np.float64]
) -> tuple[float, tuple[float, float, float]]:
    """Return the scale and (floor, span, cost) of least squared error; span and cost are never negative."""
    best = (math.inf, float(_SCALES[0]), (0.0, 0.0, 0.0))
    for scale in _SCALES:
        columns = np.stack([np.ones_like(x), np.exp(-x / scale), s**2], axis=1)
        floor, span, cost = np.linalg.lstsq(columns, loss, rcond=None)[0]
        span, cost = max(0.0, float(span)), max(0.0, float(cost))
        floor = max(0.0, float(np.mean(loss - span * columns[:, 1] - cost * columns[:, 2])))
        error = float(np.sum((loss - floor - span * columns[:, 1] - cost * columns[:, 2]) ** 2))
        if error < best[0]:
            best = error, float(scale), (floor, span, cost)
    return best[1], best[2]
