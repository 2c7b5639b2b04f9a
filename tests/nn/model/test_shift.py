from pathlib import Path

import numpy as np
import pytest
import torch

from fedcore.core.errors import ModelError
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.shift import add_shift
from tests.tiny_models import tiny_model


@pytest.mark.parametrize("kind", ["bert", "llama-gqa"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_it_is_added_in_float32_and_rounded_once(tmp_path: Path, kind: str, dtype: str) -> None:
    classifier = load_classifier(tiny_model(tmp_path / kind, kind), labels=("a", "b"), head="auto", dtype=dtype)
    before = classifier.base_linear(1, "down").weight.detach().clone()
    others = classifier.base_linear(0, "down").weight.detach().clone()
    added = np.random.default_rng(0).standard_normal(before.shape).astype(np.float32)
    add_shift(classifier, {"layers.1.down.W": added, "layers.1.down.A": added})
    expected = (before.float() + torch.from_numpy(added)).to(before.dtype)
    assert torch.equal(classifier.base_linear(1, "down").weight, expected)
    assert torch.equal(classifier.base_linear(0, "down").weight, others)


def test_another_shape_is_refused(tmp_path: Path) -> None:
    classifier = load_classifier(tiny_model(tmp_path / "bert", "bert"), labels=("a", "b"), head="mean", dtype="float32")
    with pytest.raises(ModelError, match=r"layers\.0\.q\.W has shape \(2, 2\)"):
        add_shift(classifier, {"layers.0.q.W": np.zeros((2, 2), np.float32)})
