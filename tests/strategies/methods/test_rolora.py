"""RoLoRA: B and A take turns, and each round's mean is exact."""

from fedcore.core.model.trained_part import Factors, TrainedPart
from tests.strategies.methods.test_ffa_lora import gap


def test_the_mean_of_products_is_the_product_of_the_means_in_every_round():
    assert gap(TrainedPart(factors=Factors.B)) == 0.0
    assert gap(TrainedPart(factors=Factors.A)) == 0.0


def test_odd_rounds_train_b_and_even_rounds_a(build, roster, play):
    strategy = build(name="rolora", server_optimizer="nesterov")
    _, plans, _ = play(strategy, roster, 4)
    turns = [{each.training.trains.factors for each in plan.assignments} for plan, _ in plans]
    assert turns == [{Factors.B}, {Factors.A}, {Factors.B}, {Factors.A}]
    assert strategy.server_optimizer is None and not strategy.config.training.keep_optimizer


def test_a_void_round_is_no_turn(build, roster, fleet):
    """A has no gradient before a round has moved B, which begins at zero."""
    strategy = build(name="rolora")
    state, turns = strategy.start(), []
    for number, void in enumerate((True, False, True, False, False), start=1):
        state, plan = strategy.plan(state, roster, number)
        turns.append(plan.assignments[0].training.trains.factors)
        state, _ = strategy.close(state, fleet(failures=False).outcomes(strategy, plan, roster), number, void=void)
    assert turns == [Factors.B, Factors.B, Factors.A, Factors.A, Factors.B]
