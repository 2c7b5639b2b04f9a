"""The regret of bandits where the truth is known: python -m benchmarks.bandit_regret [--quick] [--json [FILE]]

No model: losses, importances and times by formula (benchmarks.regret.truth), everything that decides is real. Regret is
one-step: the expected reward of the best arm that schedule and memory allow a device, given what the others of its
cohort play, less that of the arm it played; mean over the cohort, summed over 30 rounds. Every policy is held against
the same reward, the one without a pace. Beside it stands what a policy is for: progress per virtual second.

The best fixed arm is the one of a grid with the least regret on SCREENED seeds of the same fleet, in hindsight.
"""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.regret.figure import draw
from benchmarks.regret.fleets import COHORT, FLEETS, ROUNDS, Fleet
from benchmarks.regret.play import Game, Played, Player
from benchmarks.regret.players import GOALS, PLAYERS, RANDOM, fixed_arms
from benchmarks.report import emit, parser

SEEDS = range(10)
SCREENED = 2
FINALISTS = 2
BEST_FIXED = "best fixed arm"
FIGURE = Path("benchmarks/figures/bandit_regret.png")


def measure(fleet: Fleet, seeds: Sequence[int], players: Sequence[Player]) -> tuple[dict[str, list[Played]], str]:
    """Return every policy's games, one for each seed, and which fixed arm is the best."""
    games = {player.name: [Game(fleet, player, seed).play() for seed in seeds] for player in players}
    fixed = fixed_arms(fleet)
    screened = {player.name: [Game(fleet, player, seed).play() for seed in seeds[:SCREENED]] for player in fixed}
    ahead = sorted(fixed, key=lambda player: _regret(screened[player.name]))[:FINALISTS]
    finals = {
        player.name: screened[player.name] + [Game(fleet, player, seed).play() for seed in seeds[SCREENED:]]
        for player in ahead
    }
    best = min(finals, key=lambda name: _regret(finals[name]))
    return games | {BEST_FIXED: finals[best]}, best


def rows_of(fleet: str, games: Mapping[str, Sequence[Played]]) -> list[dict[str, Any]]:
    """Return a row for every policy: medians and extremes over seeds."""
    half, fixed = _regret(games[RANDOM]) / 2, _regret(games[BEST_FIXED])
    rows = []
    for name, played in games.items():
        sums = [sum(game.regret) for game in played]
        regret = _regret(played)
        rows.append(
            {
                "fleet": fleet,
                "policy": name,
                "regret": round(regret, 3),
                "regret_low": round(min(sums), 3),
                "regret_high": round(max(sums), 3),
                "of_half_random": round(regret / half, 2),
                "of_best_fixed": round(regret / fixed, 2),
                "steps_per_s": round(_rate(played), 4),
                "seconds": round(statistics.median(sum(game.seconds) for game in played)),
                "of_oracle_rate": round(_rate(played) / _rate(games["oracle"]), 2),
            }
        )
    return rows


def goals(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return for every policy in GOALS where its regret is below half of random's and below the best fixed arm's."""
    notes = {}
    for name in GOALS:
        worst = {
            key: max(row[key] for row in rows if row["policy"] == name) for key in ("of_half_random", "of_best_fixed")
        }
        reached = "reached" if max(worst.values()) < 1.0 else "missed"
        notes[f"goal, {name}"] = (
            f"{reached}: at worst {worst['of_half_random']} of half of random's regret and "
            f"{worst['of_best_fixed']} of the best fixed arm's"
        )
    return notes


def _regret(played: Sequence[Played]) -> float:
    return statistics.median(sum(game.regret) for game in played)


def _rate(played: Sequence[Played]) -> float:
    return statistics.median(sum(game.progress) / sum(game.seconds) for game in played)


def main() -> None:
    """Play every policy on every fleet and report."""
    arguments = parser("bandit_regret", "What bandits lose against the best arm.").parse_args()
    seeds = SEEDS[:SCREENED] if arguments.quick else SEEDS
    rows: list[dict[str, Any]] = []
    games: dict[str, dict[str, list[Played]]] = {}
    fixed: dict[str, str] = {}
    for name, fleet in FLEETS.items():
        games[name], fixed[name] = measure(fleet, list(seeds), PLAYERS)
        rows += rows_of(name, games[name])
    if not arguments.quick:
        draw(games, FIGURE)
    notes = {
        "regret": f"mean over cohorts of {COHORT}, summed over {ROUNDS} rounds; median of {len(seeds)} seeds, extremes",
        "steps_per_s": "effective steps of the cohort's mean update per virtual second, and as a share of the oracle's",
        **{f"best fixed arm, {name}": arm.removeprefix("fixed: ") for name, arm in fixed.items()},
        **goals(rows),
    }
    emit("bandit_regret", rows, arguments, notes=notes)


if __name__ == "__main__":
    main()
