from fedcore.core.bandit.random_arm import RandomArm
from fedcore.core.seeds import generator


def arms(events):
    return [(each["round"], each["device"], each["arm"]) for each in events if each["event"] == "choice"]


def test_it_is_fedspine_with_the_random_bandit_whatever_the_configuration_says(build, roster, play):
    _, plans, events = play(build(name="random-arms", bandit="s-ucb"), roster, 12)
    _, same_plans, same = play(build(name="fedspine", bandit="random"), roster, 12)
    assert plans == same_plans
    assert arms(events) == arms(same)


def test_an_arm_is_the_draw_of_its_own_stream(build, roster, play):
    _, _, events = play(build(name="random-arms"), roster, 6)
    event = next(each for each in events if each["event"] == "choice" and each["round"] == 6)
    rng = generator(3, "bandit", 6, event["device"])
    low, high, ranks = event["space"]["low"], event["space"]["high"], event["space"]["ranks"]
    assert event["arm"] == {"sparsity": rng.uniform(low, high), "rank": ranks[int(rng.integers(len(ranks)))]}
    assert build(name="random-arms").bandit == RandomArm()
