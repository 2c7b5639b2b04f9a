"""One device's spans and sessions: a span has ended at its end, and every session has an epoch of its own."""

import math

from fedcore.simulation.fleet.presence import Presence


def test_the_next_span_is_the_first_that_ends_after_now() -> None:
    presence = Presence(spans=iter([(0.0, 5.0), (5.0, 6.0), (8.0, 9.0), (20.0, math.inf)]))
    seen = []
    for now_s in (0.0, 4.9, 5.0, 6.0, 8.9, 9.0, 1e9):
        assert presence.next_span(now_s)
        seen.append((presence.from_s, presence.until_s))
    assert seen == [(0.0, 5.0), (0.0, 5.0), (5.0, 6.0), (8.0, 9.0), (8.0, 9.0), (20.0, math.inf), (20.0, math.inf)]


def test_after_the_last_span_there_is_none_however_often_one_asks() -> None:
    presence = Presence(spans=iter([(1.0, 2.0)]))
    assert presence.next_span(0.0) and presence.next_span(1.9)
    assert not presence.next_span(2.0) and not presence.next_span(2.0)
    assert not Presence(spans=iter(())).next_span(0.0)


def test_every_arrival_is_a_newer_session() -> None:
    presence = Presence(spans=iter(()))
    assert not presence.here and [presence.arrive(), presence.arrive()] == [1, 2] and presence.here
