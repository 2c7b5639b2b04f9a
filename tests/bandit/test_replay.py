import json

import pytest

from fedcore.assignment import Arm
from fedcore.bandit.replay import arm_json, arm_space_json, committed, replay
from fedcore.bandit.s_ucb import SUcb
from fedcore.errors import RunError
from fedcore.protocols import ArmSpace
from fedcore.seeds import generator

SPACE = ArmSpace(sparsity_low=0.1, sparsity_high=0.7, ranks=(4, 8))
BANDIT = SUcb(ranks=(4, 8))


def played(rounds, seed=7, devices=("a", "b")):
    """Events of a run in which all devices share the posterior "nx"."""
    state, events = BANDIT.start(), [{"event": "round_opened", "round": 1}]
    for t in range(1, rounds + 1):
        arms = {}
        for device in devices:
            arms[device] = BANDIT.select(state, SPACE, generator(seed, "bandit", t, device))
            events.append(
                {
                    "event": "choice",
                    "round": t,
                    "device": device,
                    "bandit_key": "nx",
                    "space": arm_space_json(SPACE),
                    "arm": arm_json(arms[device]),
                }
            )
        for device in devices:
            reward = None if (t, device) == (2, "b") else arms[device].sparsity
            realised = Arm(sparsity=round(arms[device].sparsity, 2), rank=arms[device].rank)
            if reward is not None:
                state = BANDIT.observe(state, realised, reward)
            events.append(
                {
                    "event": "reward",
                    "round": t,
                    "device": device,
                    "bandit_key": "nx",
                    "arm": arm_json(realised),
                    "reward": reward,
                }
            )
    return events, state


def test_replay_derives_every_choice_and_the_final_state():
    events, state = played(12)
    logged = [json.loads(json.dumps(event)) for event in events]
    assert replay(logged, BANDIT, 7) == {"nx": state}


def test_another_seed_differs():
    events, _ = played(2)
    with pytest.raises(RunError, match="replay differs in round 1 for device a"):
        replay(events, BANDIT, 8)


def test_a_changed_reward_shows_in_a_later_choice():
    events, _ = played(12)
    for event in events:
        if event["event"] == "reward" and event["round"] <= 6:
            event["reward"] = 0.9 if event["reward"] is not None else None
    with pytest.raises(RunError, match="replay differs in round"):
        replay(events, BANDIT, 7)


def test_a_round_played_again_counts_once():
    events, state = played(5)
    third = [event for event in events if event["round"] == 3]
    stale = [event | {"reward": 0.0} if event["event"] == "reward" else event for event in third]
    position = events.index(third[0])
    crashed = [*events[:position], *stale, *events[position:]]
    assert replay(crashed, BANDIT, 7) == {"nx": state}
    assert committed(crashed) == [event for event in events if event["event"] != "round_opened"]
