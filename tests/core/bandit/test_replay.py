import json
from dataclasses import replace

import pytest

from fedcore.core.bandit.replay import arm_json, arm_space, arm_space_json, committed, replay
from fedcore.core.bandit.s_ucb import SUcb
from fedcore.core.contract.protocols import ArmSpace
from fedcore.core.errors import RunError
from fedcore.core.seeds import generator

SPACE = ArmSpace(sparsity_low=0.1, sparsity_high=0.7, ranks=(4, 8))
BANDIT = SUcb(ranks=(4, 8))


def played(rounds, seed=7, devices=("a", "b"), bandit=BANDIT, space=SPACE):
    """Events of a run in which all devices share the posterior "nx"."""
    state, events = bandit.start(), [{"event": "round_opened", "round": 1}]
    for t in range(1, rounds + 1):
        arms = {}
        for device in devices:
            arms[device] = bandit.select(state, space, generator(seed, "bandit", t, device))
            events.append(
                {
                    "event": "choice",
                    "round": t,
                    "device": device,
                    "bandit_key": "nx",
                    "space": arm_space_json(space),
                    "arm": arm_json(arms[device]),
                }
            )
        for device in devices:
            reward = None if (t, device) == (2, "b") else arms[device].sparsity
            realised = replace(arms[device], sparsity=round(arms[device].sparsity, 2))
            if reward is not None:
                state = bandit.observe(state, realised, reward)
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


def test_steps_are_replayed_where_they_are_a_choice():
    bandit, space = SUcb(ranks=(4, 8), steps=(5, 20)), replace(SPACE, steps=(5, 20))
    events, state = played(12, bandit=bandit, space=space)
    logged = [json.loads(json.dumps(event)) for event in events]
    assert {event["arm"]["steps"] for event in logged if "arm" in event} == {5, 20}
    assert replay(logged, bandit, 7) == {"nx": state}
    assert arm_space(arm_space_json(space)) == space


def test_logs_without_steps_say_nothing_of_them():
    events, _ = played(1)
    assert events[1]["space"] == {"low": 0.1, "high": 0.7, "ranks": [4, 8]}
    assert set(events[1]["arm"]) == {"sparsity", "rank"}
    assert arm_space(events[1]["space"]) == SPACE


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
