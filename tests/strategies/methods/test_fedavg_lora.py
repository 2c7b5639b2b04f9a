from fedcore.core.model.keep_set import KeepSet


def test_full_model_one_rank_no_scores(build, roster, play, geometry):
    strategy = build(name="fedavg-lora")
    state, plans, _ = play(strategy, roster, 12)
    assigned = [each for plan, _ in plans for each in plan.assignments]
    assert len(assigned) == 12 * len(roster)
    assert {each.arm.rank for each in assigned} == {8}
    assert {each.keep_set for each in assigned} == {KeepSet.full(geometry)}
    assert not any(each.score for each in assigned)
    assert [each.weight for each in plans[0][0].assignments] == [10, 20] * 3
    assert strategy.export_keep_set(state, "tx2") == KeepSet.full(geometry)
