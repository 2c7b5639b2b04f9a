"""States that commit 8680516 wrote (tests/fixtures/policy_states_of_8680516.json): the same JSON, key for key.

Of four policies on a fleet of six: the state before round 1, that of the open round 3 and that after it, and choices.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fedcore.core.config.tables import Config
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.contract.protocols import Json
from fedcore.strategies.table import make_strategy
from tests.strategies.conftest import GEOMETRY, HEAD, Fleet

STORED: dict[str, Json] = json.loads(
    (Path(__file__).parents[2] / "fixtures" / "policy_states_of_8680516.json").read_text(encoding="utf-8")
)
ROUNDS = 3
ROSTER = tuple(
    DeviceProfile(
        name=f"{kind}-{index}",
        device_class=kind,
        num_examples=10 * (index + 1),
        slowdown=1.0 + 2 * index,
        uplink_mbps=0.5 + index,
        downlink_mbps=2.0,
    )
    for kind in ("agx", "nx", "tx2")
    for index in range(2)
)


def with_settings(config: Config, settings: Json) -> Config:
    tuples = {key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()}
    return replace(config, strategy=replace(config.strategy, **tuples))


def spelled(state: Json) -> str:
    """A state as text: the order of keys counts, and an integer is no float."""
    return json.dumps(state)


@pytest.mark.parametrize("name", sorted(STORED))
def test_a_policy_writes_the_states_of_the_earlier_version(config: Config, name: str) -> None:
    stored = STORED[name]
    strategy = make_strategy(with_settings(config, stored["settings"]), GEOMETRY, HEAD)
    state, states, choices = strategy.start(), [strategy.start()], []
    for t in range(1, ROUNDS + 1):
        opened, plan = strategy.plan(state, ROSTER, t)
        state, _ = strategy.close(opened, Fleet().outcomes(strategy, plan, ROSTER), t)
        states += [opened, state]
        choices += [
            [each.device, each.arm.sparsity, each.arm.rank, each.arm.steps, each.keep_set.blob_id]
            for each in plan.assignments
        ]
    assert choices == stored["choices"]
    assert [spelled(each) for each in states[:1] + states[-2:]] == [spelled(each) for each in stored["states"]]


@pytest.mark.parametrize("name", sorted(STORED))
def test_an_open_state_of_the_earlier_version_is_closed(config: Config, name: str) -> None:
    stored = STORED[name]
    strategy = make_strategy(with_settings(config, stored["settings"]), GEOMETRY, HEAD)
    _, opened, closed = stored["states"]
    before = {**opened, "open": None}  # planning changes orders alone, and those are frozen already
    again, plan = strategy.plan(before, ROSTER, ROUNDS)
    assert again == opened
    assert strategy.close(opened, Fleet().outcomes(strategy, plan, ROSTER), ROUNDS)[0] == closed
