"""What a first line that lacks the asked columns tells of its file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcore.client.data.header_doubts import UTF_16, header_mistake

COLUMNS = ("text", "label")
ROWS = (["a good, long film", "pos"], ["a bad film", "neg"])


@pytest.mark.parametrize(
    ("separator", "other", "message"),
    [
        (",", ";", "the file is separated by ';', not by ','; save it with commas (in a spreadsheet: CSV UTF-8"),
        (",", "|", "the file is separated by '|', not by ','; save it with commas"),
        (",", "\t", "the file is separated by tabs, not by ','; call it .tsv, or save it with commas"),
        ("\t", ",", "the file is separated by ',', not by tabs; call it .csv"),
        ("\t", ";", "the file is separated by ';', not by tabs; save it with commas"),
    ],
)
@pytest.mark.parametrize("names", [("text", "label"), ("review", "stars", "id")])
def test_another_separator_is_named(separator: str, other: str, message: str, names: tuple[str, ...]) -> None:
    header = other.join(names).split(separator)
    following = [other.join(["good film", "pos", "1"][: len(names)]).split(separator) for _ in range(3)]
    told = header_mistake(header, following, COLUMNS, separator)
    assert told is not None and told.startswith(message)
    assert told.endswith(f"; its columns: {', '.join(names)}")


def test_texts_that_hold_the_expected_separator_do_not_hide_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    told = header_mistake(["text;label"], [["a good", " long film;pos"]], COLUMNS, ",")
    assert told is not None and told.startswith("the file is separated by ';'")


def test_quoted_names_are_names() -> None:
    told = header_mistake(['"text";"label"'], [], COLUMNS, ",")
    assert told is not None and told.endswith("its columns: text, label")


@pytest.mark.parametrize(
    "header", [["good film", "pos"], ["this one has five words", "y"], ["x", "4.5"], ["z" * 50, "y"]]
)
def test_a_row_in_place_of_a_header_is_told(header: list[str]) -> None:
    told = header_mistake(header, ROWS, COLUMNS, ",")
    assert told is not None
    assert told.startswith("no column 'text': the first line looks like a row, not like a header: '")
    assert told.endswith("; put a line with the columns' names above it, such as text,label")


def test_long_cells_are_cut() -> None:
    told = header_mistake(["z" * 500, "pos"], ROWS, COLUMNS, ",")
    assert told is not None and len(told) < 250


@pytest.mark.parametrize("header", [["review", "sentiment"], ["TEXT", "label"], ["0", "1"], ["1", "2", "3"], [""], []])
def test_names_that_are_others_are_no_mistake(header: list[str]) -> None:
    assert header_mistake(header, ROWS, COLUMNS, ",") is None


def test_utf_16_without_a_mark_is_told() -> None:
    assert header_mistake(["t\0e\0x\0t\0", "\0l\0"], [], COLUMNS, ",") == UTF_16


@given(st.lists(st.text(max_size=9), max_size=5), st.lists(st.lists(st.text(max_size=9), max_size=5), max_size=5))
def test_any_lines_can_be_asked_about(header: list[str], following: list[list[str]]) -> None:
    told = header_mistake(header, following, (*COLUMNS, "a column that nobody has"), "\t")
    assert told is None or told


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (["<!DOCTYPE html>"], "the file is a web page, not a table; fetch the file itself"),
        (['  <html lang="en">'], "the file is a web page, not a table; fetch the file itself"),
        (['{"text": "a"', ' "label": 1}'], "the file is JSON; call it .jsonl, or .json where it is one array"),
        (
            ["version https://git-lfs.github.com/spec/v1"],
            "the file is only a pointer of Git LFS; fetch its content with",
        ),
        (["sep=;"], "its first line, 'sep=;', is for Excel alone; delete it, and save the table with commas"),
        (['"text"', '"label"'], "its cells are in quotation marks, which a .tsv file does not have; write it without"),
    ],
)
def test_what_is_no_table_is_named(header: list[str], message: str) -> None:
    told = header_mistake(header, [], COLUMNS, "\t")
    assert told is not None and told.startswith(message)
