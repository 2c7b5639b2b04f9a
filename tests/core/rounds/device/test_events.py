"""The events of a device's machine are frozen values of one union."""

from typing import get_args

from fedcore.core.rounds.device import events
from tests.core.rounds.unions import check_values


def test_events_are_values_of_one_union() -> None:
    check_values(events, events.Event)


def test_an_ending_is_an_event() -> None:
    assert set(get_args(events.Ending)) < set(get_args(events.Event))
