from fedcore.simulation.progress import RoundLines


def test_the_learning_rate_that_trials_found_is_a_line() -> None:
    lines: list[str] = []
    shown = RoundLines(say=lines.append, total_rounds=3, now_s=lambda: 0.0)
    shown.event("learning_rate", {"round": 1, "learning_rate": 0.00321, "devices": 12, "trials": []})
    shown.event("pushed", {"device": "a", "round": 1})
    assert lines == ["learning rate 0.0032, by the trials of 12 devices"]
