import pytest

from benchmarks.anyset.cells import LINES, NAMES, SKEWS, Cell, cells
from fedcore.core.errors import ConfigError


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("skew", SKEWS)
def test_every_line_under_every_skew_is_a_configuration(line: str, skew: str) -> None:
    config = Cell(data="movies", skew=skew, line=line, seed=3).config
    assert config.run.seed == 3 and len(config.classes) == 3
    assert config.data.partition in ("iid", "one-label", "dirichlet")


def test_overrides_come_last_and_change_the_hash() -> None:
    plain = Cell(data="tweets", skew="1.0", line="fedspine", seed=0)
    changed = Cell(data="tweets", skew="1.0", line="fedspine", seed=0, overrides=("run.rounds=3", "strategy.ranks=[4]"))
    assert (changed.config.run.rounds, changed.config.strategy.ranks) == (3, (4,))
    assert changed.hash != plain.hash


def test_a_file_counts_by_its_name_wherever_it_lies() -> None:
    here, there = (Cell(data=f"{folder}/a.csv", skew="iid", line="fedit", seed=0) for folder in ("x", "y"))
    assert here.hash == there.hash and here.config.data.train == "x/a.csv"


def test_a_plan_that_breaks_off_has_whole_comparisons() -> None:
    plan = cells(["movies", "r8"], ["iid"], ["fedspine", "fedit"], [0, 1], [])
    assert [cell.seed for cell in plan] == [0] * 4 + [1] * 4
    assert len({cell.hash for cell in plan}) == 8


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ConfigError, match="trainings"):
        _ = Cell(data="movies", skew="iid", line="fedit", seed=0, overrides=("trainings.rate=1",)).config


def test_names_do_not_hide_each_other() -> None:
    assert len(set(NAMES)) == len(NAMES)
