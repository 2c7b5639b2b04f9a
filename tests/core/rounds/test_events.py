"""The events are frozen values of one union, each with its time and its rule."""

from dataclasses import fields
from typing import get_args

from fedcore.core.rounds import events
from fedcore.core.rounds.machine import RULES
from tests.core.rounds.unions import check_values


def test_events_are_values_of_one_union() -> None:
    check_values(events, events.Event)


def test_every_event_has_a_time_and_a_rule() -> None:
    assert all("now_s" in {item.name for item in fields(kind)} for kind in get_args(events.Event))
    assert set(RULES) == set(get_args(events.Event))
