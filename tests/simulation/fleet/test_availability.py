import math
from itertools import islice, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.core.config.tables import ClassConfig
from fedcore.core.errors import DataError
from fedcore.simulation.fleet.availability import DAY_S, Traces, online_spans, read_traces

KINDS = st.sampled_from(("diurnal", "churn"))


def kind(availability: str, **changes: float) -> ClassConfig:
    return ClassConfig(name="a", availability=availability, **changes)  # type: ignore[arg-type]


@given(KINDS, st.floats(0.05, 0.95), st.integers(0, 1000), st.integers(0, 50))
def test_spans_are_in_order_and_apart(availability: str, share: float, seed: int, device: int) -> None:
    spans = list(islice(online_spans(kind(availability, online_share=share), f"a-{device}", seed), 20))
    assert spans[0][0] >= 0
    assert all(start < end for start, end in spans)
    assert all(before[1] <= after[0] for before, after in pairwise(spans))


@pytest.mark.parametrize("availability", ["diurnal", "churn"])
@pytest.mark.parametrize("at_s", [0.0, 3.3 * DAY_S])
def test_the_share_online_is_the_one_asked_for_at_any_moment(availability: str, at_s: float) -> None:
    churning = kind(availability, online_share=0.3, session_s=2000.0)
    online = sum(
        any(start <= at_s < end for start, end in islice(online_spans(churning, f"a-{number}", 1), 400))
        for number in range(600)
    )
    assert 0.24 < online / 600 < 0.36


def test_a_diurnal_device_is_online_at_the_same_hour_of_every_day() -> None:
    spans = list(islice(online_spans(kind("diurnal", online_share=0.25), "a-0", 5), 6))
    starts = [start % DAY_S for start, _ in spans[1:]]
    assert max(starts) - min(starts) < 1e-6
    assert all(end - start == pytest.approx(DAY_S / 4) for start, end in spans[1:])


@pytest.mark.parametrize("always", [kind("always"), kind("churn", online_share=1.0)])
def test_a_device_that_is_always_online_has_one_span(always: ClassConfig) -> None:
    assert list(online_spans(always, "a-0", 0)) == [(0.0, math.inf)]


def test_equal_seeds_give_equal_spans_and_devices_differ() -> None:
    def spans(device: str, seed: int) -> list[tuple[float, float]]:
        return list(islice(online_spans(kind("churn"), device, seed), 5))

    assert spans("a-0", 1) == spans("a-0", 1)
    assert spans("a-0", 1) != spans("a-1", 1)
    assert spans("a-0", 1) != spans("a-0", 2)


def test_a_trace_is_sorted_and_merged_and_replaces_every_class(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("device,start_s,end_s\na-0,50,60\na-0,0,10\na-0,5,20\nb-0,1,2\n")
    traces = read_traces(path)
    assert traces == Traces(spans={"a-0": ((0.0, 20.0), (50.0, 60.0)), "b-0": ((1.0, 2.0),)})
    assert list(online_spans(kind("churn"), "a-0", 0, traces)) == [(0.0, 20.0), (50.0, 60.0)]
    assert list(online_spans(kind("always"), "elsewhere", 0, traces)) == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("device,start_s\na,1\n", "lacks"),
        ("device,start_s,end_s\na,1,x\n", "line 2: expected two numbers"),
        ("device,start_s,end_s\na,1,2\na,5,5\n", "line 3: expected 0 <= start_s < end_s"),
        ("device,start_s,end_s\na,-1,2\n", "line 2"),
        ("device,start_s,end_s\na,1\n", "line 2"),
    ],
)
def test_a_bad_trace_is_reported_with_its_line(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=words):
        read_traces(path)


def test_a_missing_trace_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot read the availability trace"):
        read_traces(tmp_path / "nowhere.csv")
