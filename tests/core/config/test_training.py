import math
from typing import Any

import pytest

from fedcore.core.config.keys import keys_of
from fedcore.core.config.tables import TrainingConfig
from fedcore.core.errors import ConfigError
from fedcore.core.pruning.criteria import CRITERIA


@pytest.mark.parametrize(
    ("key", "bad", "message"),
    [
        ("final_lr_share", 0.0, "training.final_lr_share must be in (0, 1], got 0.0"),
        ("distill", 1.1, "training.distill must be in [0.0, 1.0], got 1.1"),
        ("distill_temperature", math.inf, "training.distill_temperature must be above 0, got inf"),
        ("label_skew", "all", "training.label_skew: expected one of balance, adjust, ignore; got 'all'"),
        ("downlink", "fp16", "training.downlink: expected one of full, delta, bf16; got 'fp16'"),
        ("handout", "", "training.handout: expected one of whole, kept; got ''"),
    ],
)
def test_a_value_out_of_range_is_named(key: str, bad: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainingConfig(**{key: bad})
    assert str(caught.value) == message


def test_the_ends_of_the_ranges_belong_to_them() -> None:
    config = TrainingConfig(final_lr_share=1.0, distill=1.0, handout="kept")
    assert (config.final_lr_share, config.distill, config.handout) == (1.0, 1.0, "kept")


def test_groups_are_scored_by_the_criteria_that_there_are() -> None:
    assert [rule.schema for rule in keys_of(TrainingConfig)["importance"].rules] == [{"enum": list(CRITERIA)}]
