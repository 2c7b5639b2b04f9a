import pytest

from fedcore.core.config.tables import Config, RunConfig, TrainingConfig
from fedcore.strategies.policy.learning_rate import decay


def config(rounds: int, share: float) -> Config:
    return Config(run=RunConfig(rounds=rounds), training=TrainingConfig(final_lr_share=share))


def test_it_falls_from_one_to_the_share_by_half_a_cosine() -> None:
    settings = config(11, 0.2)
    assert decay(settings, 1) == pytest.approx(1.0)
    assert decay(settings, 6) == pytest.approx(0.6)
    assert decay(settings, 11) == pytest.approx(0.2)
    shares = [decay(settings, index) for index in range(1, 12)]
    assert shares == sorted(shares, reverse=True)


def test_rounds_after_void_ones_train_like_the_last() -> None:
    assert decay(config(5, 0.1), 9) == pytest.approx(0.1)


def test_a_single_round_and_a_share_of_one_change_nothing() -> None:
    assert decay(config(1, 0.1), 1) == 1.0
    assert {decay(config(7, 1.0), index) for index in range(1, 8)} == {1.0}
