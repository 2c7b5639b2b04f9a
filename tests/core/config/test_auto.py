import pytest

from fedcore.core.config.auto import (
    LEAST_STEPS,
    MOST_STEPS,
    local_steps,
    recovery_rounds,
    usual_steps,
    warmup_rounds,
)
from fedcore.core.config.toml import parse_config, to_toml
from fedcore.core.errors import ConfigError


def config(rounds: int = 10, **settings: object):
    return parse_config("", [f"run.rounds={rounds}", *(f"{key}={value}" for key, value in settings.items())])


@pytest.mark.parametrize(("rounds", "warmup", "recovery"), [(1, 1, 0), (8, 1, 4), (10, 1, 5), (20, 2, 10), (99, 3, 49)])
def test_schedules_follow_from_the_rounds(rounds: int, warmup: int, recovery: int) -> None:
    assert (warmup_rounds(config(rounds)), recovery_rounds(config(rounds))) == (warmup, recovery)


def test_what_is_set_stands() -> None:
    chosen = parse_config("[strategy]\nwarmup_rounds = 4\nrecovery_rounds = 0\n[training]\nlocal_steps = 33")
    assert (warmup_rounds(chosen), recovery_rounds(chosen)) == (4, 0)
    assert local_steps(chosen, 1) == local_steps(chosen, 10**6) == usual_steps(chosen) == 33


@pytest.mark.parametrize(
    ("rows", "steps"), [(1, 1), (3, 1), (8, 2), (16, 4), (200, 4), (800, 10), (1300, 17), (10**6, MOST_STEPS)]
)
def test_steps_are_two_passes_over_the_rows_within_bounds(rows: int, steps: int) -> None:
    assert local_steps(config(), rows) == steps


def test_more_rounds_take_fewer_steps_each() -> None:
    assert local_steps(config(20), 1300) == 9
    assert local_steps(config(10_000), 1300) == LEAST_STEPS


def test_auto_is_the_word_for_a_number_left_out() -> None:
    said = parse_config('[training]\nlearning_rate = "auto"\nlocal_steps = "auto"\n[strategy]\nwarmup_rounds = "auto"')
    assert said == parse_config("")
    assert said.training.learning_rate is None
    assert parse_config(to_toml(said)) == said


def test_another_word_is_refused_with_what_may_be_said() -> None:
    with pytest.raises(ConfigError, match=r'training.learning_rate: expected a number or "auto", got \'fast\''):
        parse_config("", ["training.learning_rate=fast"])


def test_a_text_may_be_auto_and_stays_a_text() -> None:
    assert parse_config("", ["model.head=auto"]).model.head == "auto"
    with pytest.raises(ConfigError, match="handout"):
        parse_config("", ["training.handout=auto"])
