"""The examples in the docstrings of the seams run and print what they say."""

import doctest

import pytest

from fedcore.core.contract import protocols

SEAMS = ("Aggregator",)


@pytest.mark.parametrize("seam", SEAMS)
def test_the_example_of_a_seam_runs(seam: str) -> None:
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(getattr(protocols, seam), seam, globs=dict(vars(protocols)))
    printed: list[str] = []
    results = doctest.DocTestRunner().run(example, out=printed.append)
    assert results.attempted > 3 and results.failed == 0, "".join(printed)
