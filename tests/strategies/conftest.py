"""A small model, a fleet of three classes, and devices that answer a plan without any training."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from fedcore.core.config.tables import Config
from fedcore.core.config.toml import parse_config
from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.outcome import DeviceReport, GroupScores, Outcome, Status, TrainingMetrics
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.model.geometry import Geometry
from fedcore.strategies.table import make_strategy

GEOMETRY = Geometry(
    family="bert",
    model_type="bert",
    layers=2,
    hidden=32,
    query_heads=8,
    kv_heads=8,
    head_dim=4,
    ffn=64,
    vocab=100,
    positions=16,
    token_types=2,
    qkv_bias=True,
    o_bias=True,
    ffn_bias=True,
)
HEAD = (("head.weight", (3, 32)), ("head.bias", (3,)))
CONFIG = """
[run]
rounds = 12
seed = 3
[model]
max_length = 16
[strategy]
ranks = [2, 4, 8]
target_sparsity = 0.5
warmup_rounds = 2
recovery_rounds = 2
[training]
batch_size = 4
local_steps = 10
learning_rate = 2e-3
keep_optimizer = true
[[fleet.class]]
name = "agx"
target_sparsity = 0.3
[[fleet.class]]
name = "nx"
slowdown = 2.0
[[fleet.class]]
name = "tx2"
slowdown = 4.0
uplink_mbps = 1.0
target_sparsity = 0.7
"""


@dataclass
class Fleet:
    """Plays rounds against a strategy; answers depend on the seed, round and device only."""

    seed: int = 0
    failures: bool = True

    def outcome(self, assignment, profile, geometry):
        rng = np.random.default_rng([self.seed, assignment.round, *assignment.device.encode()])
        status = Status.ACCEPTED
        if self.failures:
            status = list(Status)[int(rng.choice(4, p=[0.7, 0.1, 0.1, 0.1]))]
        accepted = status is Status.ACCEPTED
        sparsity = assignment.keep_set.sparsity(geometry)
        report = DeviceReport(
            metrics=TrainingMetrics(
                loss_before=1.0,
                loss_after=1.0 - float(rng.random()) * (1 - sparsity),
                train_loss=1.0,
                peak_memory_mb=0.8 + 0.1 * float(rng.random()),
                adapter_importance=float(rng.random()),
            ),
            phase_s={},
            num_examples=profile.num_examples,
            steps=assignment.local_steps,
            bytes_down=1,
            bytes_up=1,
        )
        return Outcome(
            device=assignment.device,
            device_class=profile.device_class,
            round=assignment.round,
            arm=Arm(sparsity=sparsity, rank=assignment.arm.rank, steps=assignment.arm.steps),
            status=status,
            time_s=1.0 + profile.slowdown * float(rng.random()),
            report=report if accepted else None,
            scores=group_scores(assignment.keep_set, rng) if accepted and assignment.score else None,
        )

    def outcomes(self, strategy, plan, roster):
        profiles = {profile.name: profile for profile in roster}
        return [self.outcome(each, profiles[each.device], strategy.spec.geometry) for each in plan.assignments]


def group_scores(kept, rng):
    def unit(rows):
        drawn = [rng.random(len(row)) + 0.01 for row in rows]
        return tuple((row / np.linalg.norm(row)).astype(np.float32) for row in drawn)

    return GroupScores(heads=unit(kept.heads), channels=unit(kept.channels))


@pytest.fixture(scope="session")
def geometry() -> Geometry:
    return GEOMETRY


@pytest.fixture(scope="session")
def config() -> Config:
    return parse_config(CONFIG)


@pytest.fixture(scope="session")
def build(config):
    """Return make(changes to [strategy], prior=None) -> Strategy, without a pace unless it is asked for."""

    def make(prior=None, **changes):
        asked = {"pace": "off"} | changes
        return make_strategy(replace(config, strategy=replace(config.strategy, **asked)), GEOMETRY, HEAD, prior)

    return make


@pytest.fixture(scope="session")
def roster():
    names = {"agx": ("a1", "a2"), "nx": ("n1", "n2"), "tx2": ("t1", "t2")}
    return tuple(
        DeviceProfile(name=name, device_class=kind, num_examples=10 * (index + 1), slowdown=1.0 + index)
        for kind, members in names.items()
        for index, name in enumerate(members)
    )


@pytest.fixture(scope="session")
def play():
    """Return run(strategy, roster, rounds, fleet=..., state=None, first=1) -> (state, plans, events)."""

    def run(strategy, roster, rounds, fleet=None, state=None, first=1):
        fleet = fleet or Fleet()
        state = strategy.start() if state is None else state
        plans, events = [], []
        for t in range(first, rounds + 1):
            state, plan = strategy.plan(state, roster, t)
            outcomes = fleet.outcomes(strategy, plan, roster)
            state, report = strategy.close(state, outcomes, t)
            plans.append((plan, outcomes))
            events += [*plan.events, *report.events]
        return state, plans, events

    return run


@pytest.fixture(scope="session")
def fleet():
    return Fleet
