import math
from dataclasses import replace

import pytest

from fedcore.core.config.toml import parse_config
from fedcore.core.contract.outcome import DeviceReport, Outcome, Status, TrainingMetrics
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.learning_rate.search import MOST_TRIALS, ladder, run_rate
from fedcore.strategies.policy.rate_finder import MOST_DEVICES, make_rate_finder
from fedcore.strategies.policy.state import RateState
from fedcore.strategies.table import make_strategy
from tests.strategies.conftest import GEOMETRY, HEAD


def profiles(count: int) -> list[DeviceProfile]:
    return [DeviceProfile(name=f"d{index:02}", device_class="nx", num_examples=400) for index in range(count)]


def finder(*overrides: str):
    made = make_rate_finder(parse_config("", ["run.rounds=10", *overrides]))
    assert made is not None
    return made


def answers(state: RateState, best: float, *, status: Status = Status.ACCEPTED):
    """Return outcomes of devices whose losses are lowest at the rate `best`."""
    for device, trial in state.trials.items():
        losses = (1.0, *(0.5 + 0.2 * math.log(rate / best) ** 2 for rate in trial.rates))
        yield outcome(device, losses, status)


def outcome(device: str, losses: tuple[float, ...], status: Status = Status.ACCEPTED) -> Outcome:
    metrics = TrainingMetrics(
        loss_before=1.0,
        loss_after=0.9,
        train_loss=0.9,
        peak_memory_mb=1.0,
        adapter_importance=0.0,
        trial_losses=losses,
    )
    report = DeviceReport(metrics=metrics, phase_s={}, num_examples=400, steps=1, bytes_down=0, bytes_up=0)
    return Outcome(device=device, device_class="nx", round=1, arm=None, status=status, time_s=1.0, report=report)


def test_a_set_rate_needs_no_search(config, roster) -> None:
    assert make_rate_finder(parse_config("", ["training.learning_rate=1e-3"])) is None
    strategy = make_strategy(config, GEOMETRY, HEAD)
    state, plan = strategy.plan(strategy.start(), roster, 1)
    assert "rate" not in state
    assert all(task.training.trial is None for task in plan.assignments)


def test_the_first_round_finds_the_rate() -> None:
    search = finder()
    state = search.opened(RateState(), profiles(6), [20] * 6, 1)
    assert len(state.trials) == 3  # the others train at the careful rate
    after, (event,) = search.learned(state, list(answers(state, 3e-3)), 1)
    expected = run_rate(3e-3, 10 * search.steps_of(400))
    assert after.rate == pytest.approx(expected, rel=0.1)
    assert event["learning_rate"] == after.rate and event["devices"] == 3 and len(event["trials"]) == len(ladder(0))
    again = search.opened(after, profiles(6), [20] * 6, 2)
    assert again.trials == {} and search.rate(again, profiles(6)) == after.rate
    assert search.learned(again, [], 2) == (again, ())


def test_at_an_end_the_ladder_moves_and_the_next_round_tries_again() -> None:
    search = finder()
    state = search.opened(RateState(), profiles(6), [20] * 6, 1)
    after, (event,) = search.learned(state, list(answers(state, 1e-4)), 1)
    assert after.rate is None and after.shift < 0 and event["learning_rate"] is None
    second = search.opened(after, profiles(6), [20] * 6, 2)
    found, _ = search.learned(second, list(answers(second, 1e-4)), 2)
    third = search.opened(found, profiles(6), [20] * 6, 3)
    last, _ = search.learned(third, list(answers(third, 1e-4)), 3)
    rate = next(state.rate for state in (found, last) if state.rate is not None)
    assert rate == pytest.approx(run_rate(1e-4, 10 * search.steps_of(400)), rel=0.2)


def test_where_nobody_answers_the_search_ends_at_the_middle() -> None:
    search, state = finder(), RateState()
    for number in range(1, MOST_TRIALS + 1):
        assert state.rate is None
        state = search.opened(state, profiles(3), [20] * 3, number)
        state, (event,) = search.learned(state, [outcome("d00", ())], number)
        assert event["devices"] == 0
    assert state.rate == search.rate(RateState(), profiles(3))


def test_lost_and_refused_updates_say_nothing() -> None:
    search = finder()
    state = search.opened(RateState(), profiles(6), [20] * 6, 1)
    after, (event,) = search.learned(state, list(answers(state, 6e-3, status=Status.REJECTED)), 1)
    assert after.rate is None and event["devices"] == 0


def test_a_large_cohort_sends_some_devices_alone() -> None:
    state = finder().opened(RateState(), profiles(80), [20] * 80, 1)
    assert len(state.trials) == MOST_DEVICES
    assert state.trials == finder().opened(RateState(), profiles(80), [20] * 80, 1).trials
    assert set(state.trials) != set(finder("run.seed=1").opened(RateState(), profiles(80), [20] * 80, 1).trials)


def test_devices_that_take_more_steps_go_first() -> None:
    steps = [8, 16, 8, 16, 8, 16]  # fast devices, that would wait for slower ones
    assert set(finder().opened(RateState(), profiles(6), steps, 1).trials) == {"d01", "d03", "d05"}


def test_a_state_survives_json() -> None:
    state = finder().opened(RateState(), profiles(4), [20] * 4, 1)
    assert RateState.from_json(state.to_json()) == state


def test_a_trial_takes_its_steps_from_the_local_ones(config, roster, play) -> None:
    searching = replace(config, training=replace(config.training, learning_rate=None, local_steps=15))
    strategy = make_strategy(searching, GEOMETRY, HEAD)
    state, plan = strategy.plan(strategy.start(), roster, 1)
    trials = state["rate"]["trials"]
    assert 0 < len(trials) < len(plan.assignments)
    for task in plan.assignments:
        assert (task.training.trial is not None) == (task.device in trials)
        cost = 0 if task.training.trial is None else task.training.trial.cost_steps
        assert 14 < task.local_steps + cost <= 15


def test_every_later_round_trains_with_the_found_rate(config, roster, play) -> None:
    searching = replace(config, training=replace(config.training, learning_rate=None, final_lr_share=1.0))
    strategy = make_strategy(searching, GEOMETRY, HEAD)
    state, plan = strategy.plan(strategy.start(), roster, 1)
    replies = list(answers(RateState.from_json(state["rate"]), 6e-3))
    by_device = {reply.device: reply for reply in replies}
    outcomes = [
        replace(by_device[task.device], arm=task.arm, device_class="agx", round=1)
        for task in plan.assignments
        if task.device in by_device
    ]
    state, report = strategy.close(state, outcomes, 1)
    [event] = [event for event in report.events if event["event"] == "learning_rate"]
    _, second = strategy.plan(state, roster, 2)
    assert {task.training.learning_rate for task in second.assignments} == {event["learning_rate"]}
    assert all(task.training.trial is None for task in second.assignments)


def test_the_rate_falls_from_the_round_after_the_search(config, roster, play) -> None:
    searching = replace(config, training=replace(config.training, learning_rate=None, final_lr_share=0.1))
    strategy = make_strategy(searching, GEOMETRY, HEAD)
    state, plan = strategy.plan(strategy.start(), roster, 1)
    by_device = {reply.device: reply for reply in answers(RateState.from_json(state["rate"]), 6e-3)}
    outcomes = [
        replace(by_device[task.device], arm=task.arm, device_class="agx")
        for task in plan.assignments
        if task.device in by_device
    ]
    state, report = strategy.close(state, outcomes, 1)
    [event] = [event for event in report.events if event["event"] == "learning_rate"]
    _, second = strategy.plan(state, roster, 2)
    assert {task.training.learning_rate for task in second.assignments} == {event["learning_rate"]}


def test_one_sided_devices_have_no_trial() -> None:
    mixed, one = profiles(2)
    one = replace(one, label_counts=(("no", 1), ("yes", 399)))
    mixed = replace(mixed, label_counts=(("no", 100), ("yes", 300)))
    assert set(finder().opened(RateState(), [mixed, one], [20, 20], 1).trials) == {mixed.name}


def test_where_all_devices_are_one_sided_the_careful_rate_serves() -> None:
    search = finder()
    fleet = [replace(profile, label_counts=(("yes", 400),)) for profile in profiles(3)]
    state = search.opened(RateState(), fleet, [20] * 3, 1)
    after, (event,) = search.learned(state, [], 1)
    assert state.trials == {} and event["devices"] == 0
    assert after.rate == event["learning_rate"] == search.rate(RateState(), fleet)
