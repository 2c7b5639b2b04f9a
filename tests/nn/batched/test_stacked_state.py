import numpy as np
import pytest
import torch

from fedcore.core.errors import ModelError
from fedcore.nn.batched.stacked_state import Layout, StackedState
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import attach, load_adapter, read_adapter, trainable_parameters
from fedcore.nn.training.moments import Moment
from fedcore.nn.training.optimizer import make_optimizer, moments, restore
from tests.tiny_classifiers import tiny_classifier

SCALE = 0.5


def ready() -> Classifier:
    classifier = tiny_classifier("bert")
    attach(classifier, rank=2, scale=SCALE, targets=classifier.geometry.modules)
    return classifier


def test_a_line_holds_factors_first_and_comes_apart_again() -> None:
    classifier = ready()
    layout, before = Layout.of(classifier), read_adapter(classifier)
    lines = torch.from_numpy(np.stack([layout.line(before), 2 * layout.line(before)]))
    assert lines.shape == (2, layout.values)
    for name, value in layout.split(lines).items():
        np.testing.assert_array_equal(value[0], before[name])
        np.testing.assert_array_equal(value[1], 2 * before[name])
    factors = [name for name in layout.shapes if name.startswith("layers.")]
    assert list(layout.shapes)[: len(factors)] == factors
    assert layout.factor_values == sum(before[name].size for name in factors)


def test_steps_are_those_of_one_optimizer_per_device() -> None:
    classifier = ready()
    before = read_adapter(classifier)
    rng = np.random.default_rng(0)
    layout = Layout.of(classifier)
    saved = {
        name: Moment(first=rng.normal(size=v.shape).astype(np.float32), second=abs(v) + 1, step=3 + (name[-1] == "A"))
        for name, v in before.items()
    }
    state = StackedState(layout, before, [{}, saved])
    gradients = torch.from_numpy(rng.normal(size=(2, layout.values)).astype(np.float32))
    for devices in ([0, 1], [1]):
        state.step(devices, gradients[devices], learning_rate=1e-2, weight_decay=0.1)
    for device, kept in enumerate(({}, saved)):
        load_adapter(classifier, before)
        parameters = trainable_parameters(classifier)
        optimizer = make_optimizer(parameters, learning_rate=1e-2, weight_decay=0.1)
        restore(optimizer, parameters, kept)
        for _ in range(1 + device):
            for name, value in layout.split(gradients[device : device + 1]).items():
                parameters[name].grad = value[0].clone()
            optimizer.step()
        for name, expected in moments(optimizer, parameters).items():
            got = state.moments(device)[name]
            np.testing.assert_allclose(got.first, expected.first, rtol=1e-6)
            np.testing.assert_allclose(got.second, expected.second, rtol=1e-6)
            assert got.step == expected.step
        after = read_adapter(classifier)
        for name, value in layout.split(state.values * state.scales).items():
            np.testing.assert_allclose(value[device], after[name], atol=1e-6)


def test_increments_carry_the_scale() -> None:
    classifier = ready()
    layout, before = Layout.of(classifier), read_adapter(classifier)
    state = StackedState(layout, before, [{}, {}])
    state.values[1] += 1.0
    for name, value in state.increments().items():
        assert not value[0].any()
        np.testing.assert_allclose(value[1], SCALE if name.endswith(".B") else 1.0, rtol=1e-5)


def test_what_does_not_fit_is_refused() -> None:
    classifier = ready()
    layout, before = Layout.of(classifier), read_adapter(classifier)
    name = "layers.0.q.A"
    with pytest.raises(ModelError, match="does not fit the model"):
        StackedState(layout, before | {name: before[name][:1]}, [{}])
    small = Moment(first=before[name][:1], second=before[name][:1], step=1)
    with pytest.raises(ModelError, match=r"move it with moments\.follow"):
        StackedState(layout, before, [{name: small}])
