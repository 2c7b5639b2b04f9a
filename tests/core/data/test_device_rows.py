"""Rows and labels of devices, and the lines that tell of them."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.data.device_rows import (
    FEW,
    LONGEST_LABEL,
    DeviceRows,
    FleetRows,
    label_shares,
    opening_lines,
    percent,
    row_doubts,
    shares,
)


def fleet(*devices: dict[str, int], held_back: int = 10) -> FleetRows:
    named = tuple(
        DeviceRows(device=f"nx-{number}", device_class="nx", labels=labels) for number, labels in enumerate(devices)
    )
    labels = sum((Counter(device) for device in devices), Counter())
    return FleetRows(devices=named, labels=labels, held_back=held_back)


def test_all_well_is_told_in_two_lines() -> None:
    assert opening_lines(fleet({"ham": 51, "spam": 49}, {"ham": 1199, "spam": 1}, {"ham": 30, "spam": 30})) == (
        "rows: 1,360 to train on, 10 held back; 2 labels: ham 94%, spam 6%",
        "devices: 3 with 60 to 1,200 rows; most on nx-1 (ham >99%, spam <1%), fewest on nx-2 (ham 50%, spam 50%)",
    )


def test_devices_with_as_many_rows_are_told_so() -> None:
    assert opening_lines(fleet({"a": 4, "b": 4}, {"a": 8}))[1] == "devices: 2 with 8 rows each; nx-0: a 50%, b 50%"
    assert opening_lines(fleet({"a": 4, "b": 4}))[1] == "devices: 1 with 8 rows; nx-0: a 50%, b 50%"


def test_rows_that_no_device_has_are_told_without_devices() -> None:
    assert opening_lines(FleetRows(devices=(), labels={"a": 3}, held_back=0)) == (
        "rows: 3 to train on, 0 held back; 1 label: a 100%",
    )


def test_devices_of_one_to_three_rows_are_named() -> None:
    rows = fleet({"a": 3, "b": 1}, {"a": 2, "b": 1}, {"a": 1}, {"b": 90, "a": 9})
    assert [each.device for each in rows.few] == ["nx-2", "nx-1"]
    assert row_doubts(rows) == (
        "warning: 2 devices of 1 to 3 rows, too few to learn from: nx-2 (1), nx-1 (3); take fewer devices, more rows, "
        'a larger data.alpha or data.partition = "iid"',
        "one label alone: 1 of 4 devices: nx-2 (a)",
    )


def test_of_many_devices_the_first_are_named() -> None:
    few, single = row_doubts(fleet(*[{"a": 1}] * 12))
    assert few.startswith("warning: 12 devices of 1 to 3 rows")
    assert ": nx-0 (1), nx-1 (1), nx-2 (1), nx-3 (1), nx-4 (1) and 7 more; take" in few
    assert single.endswith("nx-4 (a) and 7 more")
    assert len(opening_lines(fleet(*[{"a": 1}] * 12))) == 4


@pytest.mark.parametrize(
    ("part", "whole", "said"),
    [
        (0, 5, "0%"),
        (5, 5, "100%"),
        (1, 1000, "<1%"),
        (999, 1000, ">99%"),
        (1, 8, "12%"),
        (99, 100, "99%"),
        (0, 0, "0%"),
    ],
)
def test_a_share_that_is_not_all_or_nothing_does_not_look_so(part: int, whole: int, said: str) -> None:
    assert percent(part, whole) == said


def test_the_most_frequent_labels_are_told() -> None:
    assert label_shares({"a": 1, "b": 5, "c": 2, "d": 2}) == "4 labels: b 50%, c 20%, d 20% and 1 more"
    assert shares({"x" * 99 + " number 1": 1}) == f"{'x' * (LONGEST_LABEL - 13)}...x number 1 100%"
    assert shares({"two\nlines\x1b": 1}) == "two lines  100%"


@given(st.lists(st.dictionaries(st.text(max_size=40), st.integers(1, 900), min_size=1, max_size=6), max_size=9))
def test_lines_stay_lines(devices: list[dict[str, int]]) -> None:
    rows = fleet(*devices)
    lines = opening_lines(rows)
    assert 1 <= len(lines) <= 4
    assert all(line.isprintable() and len(line) < 500 for line in lines)
    assert len(rows.few) == sum(sum(labels.values()) <= FEW for labels in devices)


def test_the_largest_device_of_each_class_is_known() -> None:
    sizes = [("agx", 3), ("tx2", 9), ("agx", 5)]
    devices = tuple(
        DeviceRows(device=f"d{place}", device_class=name, labels={"yes": count})
        for place, (name, count) in enumerate(sizes)
    )
    assert FleetRows(devices=devices, labels={"yes": 17}, held_back=None).most_by_class == {"agx": 5, "tx2": 9}


def test_rows_without_labels_are_counted_all_the_same() -> None:
    devices = tuple(
        DeviceRows(device=f"nx-{rows}", device_class="nx", labels={}, unlabelled=rows) for rows in (60, 1200)
    )
    fleet = FleetRows(devices=devices, labels={}, held_back=10, unlabelled=1260)
    assert opening_lines(fleet) == (
        "rows: 1,260 to train on, 10 held back; no labels",
        "devices: 2 with 60 to 1,200 rows; most on nx-1200, fewest on nx-60",
    )
    alone = FleetRows(devices=devices[:1], labels={}, held_back=None, unlabelled=60)
    assert opening_lines(alone)[1] == "devices: 1 with 60 rows"
