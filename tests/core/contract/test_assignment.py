"""Arms in range, and an assignment's key."""

import pytest

from fedcore.core.contract.assignment import Arm, Assignment, TrainingSpec
from fedcore.core.errors import ConfigError
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.trained_part import EVERYTHING


def test_an_arm_takes_the_ends_of_its_ranges():
    assert Arm(sparsity=0.0, rank=1) == Arm(sparsity=0.0, rank=1, steps=0)
    assert Arm(sparsity=0.999, rank=64, steps=500).sparsity == 0.999


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sparsity": 1.0}, r"sparsity must be in \[0, 1\), got 1.0"),
        ({"sparsity": -0.1}, r"sparsity must be in \[0, 1\), got -0.1"),
        ({"sparsity": float("nan")}, r"sparsity must be in \[0, 1\), got nan"),
        ({"rank": 0}, "rank must be at least 1, got 0"),
        ({"steps": -1}, "local steps must be at least 0, got -1"),
    ],
)
def test_an_arm_out_of_range_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Arm(**{"sparsity": 0.5, "rank": 4, **changes})


def test_an_update_is_known_by_device_and_round():
    training = TrainingSpec(
        batch_size=16,
        learning_rate=1e-3,
        weight_decay=0.0,
        lora_scale=2.0,
        importance="taylor",
        keep_optimizer=False,
        codec="identity",
    )
    assignment = Assignment(
        round=3,
        device="ada",
        arm=Arm(sparsity=0.5, rank=4),
        keep_set=KeepSet(heads=((0,),), channels=((0, 1),)),
        local_steps=10,
        weight=7,
        seed=1,
        deadline_s=60.0,
        score=True,
        training=training,
    )
    assert assignment.key == ("ada", 3)
    assert training.trains == EVERYTHING and training.distillation is None and not training.balanced
