"""All faults of the rows in one message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.client.data.row_faults import MOST_FAULTS, SHOWN, RowFaults
from fedcore.core.errors import DataError


def message(faults: RowFaults) -> str:
    with pytest.raises(DataError) as error:
        faults.check()
    return str(error.value)


def test_rows_without_a_fault_pass() -> None:
    RowFaults().check()


def test_one_fault_is_told_with_its_line_or_else_its_row() -> None:
    faults = RowFaults()
    faults.add("a.csv", "empty", line=7, row=5)
    assert message(faults) == "a.csv: line 7: empty"
    faults = RowFaults()
    faults.add("a.parquet", "empty", line=0, row=5)
    assert message(faults) == "a.parquet: row 5: empty"


def test_equal_faults_are_counted_and_the_first_are_named() -> None:
    faults = RowFaults()
    for number in range(1, 7):
        faults.add("a.csv", "empty", line=10 * number, row=number)
    assert message(faults) == "a.csv: 6 rows (lines 10, 20, 30, 40 and 2 more): empty"


def test_all_faults_are_told_in_the_order_of_their_first_rows() -> None:
    faults = RowFaults()
    faults.add("a.csv", "no text", line=3, row=2)
    faults.add("a.csv", "no label", line=3, row=2)
    faults.add("b.csv", "no text", line=0, row=1)
    faults.add("a.csv", "no label", line=9, row=8)
    assert message(faults) == (
        "rows that cannot be used:\n  a.csv: line 3: no text\n  a.csv: 2 rows (lines 3, 9): no label\n"
        "  b.csv: row 1: no text"
    )


def test_many_kinds_of_fault_are_counted() -> None:
    faults = RowFaults()
    for number in range(1, MOST_FAULTS + 4):
        faults.add("a.csv", f"fault {number}", line=number, row=number)
    lines = message(faults).splitlines()
    assert len(lines) == MOST_FAULTS + 2 and lines[-1] == "  3 more kinds of fault"


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 10**7)), min_size=2, max_size=50))
def test_a_message_stays_short(found: list[tuple[str, int]]) -> None:
    faults = RowFaults()
    for fault, line in found:
        faults.add("a.csv", fault, line=line, row=1)
    assert all(line.count(",") <= SHOWN for line in message(faults).splitlines())
