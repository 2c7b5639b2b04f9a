import itertools

from fedcore.nn.accelerator.pace import Pace, paced


def test_a_piece_of_work_is_followed_by_a_pause_of_its_time() -> None:
    ticks, pauses = itertools.count(step=3), []
    with paced(Pace(clock=lambda: float(next(ticks)), pause=pauses.append)):
        pass
    assert pauses == [3.0]


def test_without_a_pace_nothing_is_added() -> None:
    with paced(None):
        pass
