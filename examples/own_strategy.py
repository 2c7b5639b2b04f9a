"""A strategy of one's own, with a bandit and an aggregator of one's own, against FedSpine on a simulated fleet.

    python examples/own_strategy.py

takes seconds, with a tiny random model and made-up data. The same on any configuration, or on a fleet of processes:

    fedcore simulate examples/simulation.toml --plugin examples/own_strategy.py --set strategy.name=greedy-ranks
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import fedcore
from fedcore.core.aggregation.bundle.bundling import Bundling, Combined, Layer
from fedcore.core.aggregation.bundle.returned import returned_factors

State = dict[str, Any]  # of a bandit: a JSON value, kept in the run's ledger

CONFIG = {
    "run": {"name": "own-strategy", "rounds": 8},
    "model": {"max_length": 16},
    "strategy": {"ranks": [2, 4, 8], "warmup_rounds": 1, "recovery_rounds": 1, "target_sparsity": 0.4},
    "training": {"local_steps": 10, "batch_size": 8, "learning_rate": 1e-2},
    "coordinator": {"min_devices": 6},
    "simulation": {"exports": False, "gflops": 1.0},
    "fleet": {
        "class": [
            {"name": "laptop", "count": 3, "uplink_mbps": 40},
            {"name": "phone", "count": 3, "slowdown": 4, "uplink_mbps": 4},
        ]
    },
}


@dataclass(frozen=True, slots=True)
class EpsilonGreedy:
    """The rank of the best mean reward, one time in five any; always the least pruning that is allowed."""

    name: str = "epsilon-greedy"

    def start(self) -> State:
        """Return the state before any reward: {rank: [rewards, their mean]}."""
        return {}

    def select(self, state: State, space: fedcore.ArmSpace, rng: np.random.Generator) -> fedcore.Arm:
        """Return an arm inside `space`; ranks that were never tried come first."""
        best = max(space.ranks, key=lambda rank: state.get(str(rank), [0, 1.0])[1])
        rank = int(rng.choice(space.ranks)) if rng.random() < 0.2 else best
        return fedcore.Arm(sparsity=space.sparsity_low, rank=rank, steps=space.steps[-1])

    def observe(self, state: State, arm: fedcore.Arm, reward: float, context: tuple[float, ...] = ()) -> State:
        """Return the state after `arm` earned `reward`, in [0, 1]."""
        count, mean = state.get(str(arm.rank), [0, 0.0])
        return {**state, str(arm.rank): [count + 1, mean + (reward - mean) / (count + 1)]}


@fedcore.bandit("epsilon-greedy")
def epsilon_greedy(config: fedcore.StrategyConfig) -> fedcore.Bandit:
    """Return the bandit of a run."""
    return EpsilonGreedy()


def equal_mean(layer: Layer) -> Combined:
    """Return the mean of the returned factors, zero-padded to the largest rank; every device counts the same."""
    step = layer.server_lr / len(layer.updates)
    b, a = (1 - layer.server_lr) * layer.b, (1 - layer.server_lr) * layer.a  # (out, R), (R, in)
    for update in layer.updates:
        b_k, a_k = returned_factors(layer.b, layer.a, update)  # (out, r_k), (r_k, in)
        b[:, : b_k.shape[1]] += step * b_k
        a[: a_k.shape[0]] += step * a_k
    return Combined(b=b, a=a)


@fedcore.aggregator("equal-mean")
def equal_mean_aggregator(server_lr: float, seed: int) -> fedcore.Aggregator[Any]:
    """Return the aggregator of a run."""
    return Bundling(name="equal-mean", rule=equal_mean, has_dense_form=False, server_lr=server_lr, seed=seed)


@fedcore.strategy("greedy-ranks", cites="Sutton and Barto, Reinforcement Learning, 2nd edition, section 2.4")
def greedy_ranks(config: fedcore.Config) -> fedcore.Config:
    """Return the configuration that the parts of a run are made by."""
    return fedcore.load_config(config, {"strategy.bandit": "epsilon-greedy", "strategy.aggregator": "equal-mean"})


def main() -> None:
    """Simulate both strategies and print how they did."""
    from toy import toy_model, toy_reviews

    with tempfile.TemporaryDirectory() as folder:
        model = {"model.path": toy_model(Path(folder) / "model")}
        print("strategy      accuracy  virtual s  MB up")
        for name in ("fedspine", "greedy-ranks"):
            run = fedcore.simulate(
                CONFIG, train=toy_reviews(400), strategy=name, overrides=model, run_dir=Path(folder) / name
            )
            final, totals = run.summary["global"]["final"], run.summary["totals"]
            megabytes = totals["bytes_up"] / 1e6
            print(f"{name:12}  {final['accuracy']:8.3f}  {totals['duration_s']:9.2f}  {megabytes:5.2f}")


if __name__ == "__main__":
    main()
