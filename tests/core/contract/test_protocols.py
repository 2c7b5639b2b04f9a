"""The examples in the docstrings of the seams run and print what they say."""

import doctest
from types import ModuleType

import pytest

from fedcore.core.codec import chain, formats
from fedcore.core.contract import protocols

SEAMS = (
    (protocols, "Aggregator"),
    (protocols, "Bandit"),
    (protocols, "Strategy"),
    (formats, "Format"),
    (chain, "encode"),
)


@pytest.mark.parametrize(("module", "seam"), SEAMS, ids=[seam for _, seam in SEAMS])
def test_the_example_of_a_seam_runs(module: ModuleType, seam: str) -> None:
    finder = doctest.DocTestFinder(recurse=False)
    (example,) = finder.find(getattr(module, seam), seam, globs=dict(vars(module)))
    printed: list[str] = []
    results = doctest.DocTestRunner().run(example, out=printed.append)
    assert results.attempted > 3 and results.failed == 0, "".join(printed)
