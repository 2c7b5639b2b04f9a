from tests.matrix.cells import cells, lowest

PROJECT = """
[project]
dependencies = ["numpy>=1.26", "protobuf>=6.33.5,<7", "tomli>=2; python_version < '3.11'", "plain"]
[project.optional-dependencies]
client = ["torch>=2.5"]
quantize = ["bitsandbytes>=0.50"]
rouge = ["rouge-score>=0.1.2"]
"""


def test_lower_bounds_become_pins() -> None:
    pins = ("numpy==1.26", "protobuf==6.33.5", "torch==2.5", "bitsandbytes==0.50", "rouge-score==0.1.2")
    assert lowest(PROJECT) == pins


def test_every_supported_interpreter_has_a_cell() -> None:
    assert {cell.python for cell in cells()} == {"3.10", "3.11", "3.12", "3.13"}
    assert len({cell.name for cell in cells()}) == len(cells())
    by_name = {cell.name: cell.constraints for cell in cells()}
    assert [line.partition("==")[0] for line in by_name["3.10-newest"]] == ["torch"]
    assert not any("#" in line for line in by_name["3.13-pinned"])
