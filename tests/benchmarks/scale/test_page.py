import pytest

from benchmarks.data_plane.processes import MeasurementFailed
from benchmarks.report import RESULTS
from benchmarks.scale.costs import read_costs
from benchmarks.scale.page import PAGE, tables, with_tables
from tests.benchmarks.scale.known import COSTS


def test_the_page_shows_what_the_stored_results_give():
    text = PAGE.read_text()
    assert with_tables(text, tables(read_costs(RESULTS))) == text, "run python -m benchmarks.scale"


def test_a_table_replaces_what_stood_in_its_place():
    text = "a\n<!-- x -->\nold\n<!-- end x -->\nb\n"
    assert with_tables(text, {"x": "| new |"}) == "a\n<!-- x -->\n| new |\n<!-- end x -->\nb\n"


def test_a_page_without_a_place_says_so():
    with pytest.raises(MeasurementFailed, match="no place for the table x"):
        with_tables("nothing", {"x": "| new |"})


def test_figures_have_two_digits():
    rows = tables(COSTS)
    assert "| a join: handshake, description, stream, checks | 1 ms | membership |" in rows["units"]
    assert "| **5,000** | 200 | 500 | 50 % | 5 s | 600 MB |" in rows["edges"]
