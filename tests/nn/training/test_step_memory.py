import torch

from fedcore.nn.model.lora import attach, trainable_parameters
from fedcore.nn.training.step_memory import StepMemory, measure_step_memory
from tests.nn.training.test_train import make_spec
from tests.tiny_classifiers import tiny_classifier


def test_memory_grows_with_tokens_and_the_classifier_stays() -> None:
    classifier = tiny_classifier("bert")
    attach(classifier, rank=2, scale=2.0, targets=classifier.geometry.modules)
    before = [parameter.detach().clone() for parameter in trainable_parameters(classifier).values()]
    found = measure_step_memory(classifier, make_spec(), rows=8, width=10)
    assert found.standing_mb > 0 and found.token_mb > 0
    for value, parameter in zip(before, trainable_parameters(classifier).values(), strict=True):
        torch.testing.assert_close(parameter, value, rtol=0, atol=0)
        assert parameter.grad is None


def test_no_step_takes_no_memory() -> None:
    memory = StepMemory(standing_mb=5.0, token_mb=0.5)
    assert memory.peak_mb(0) == 0.0
    assert memory.peak_mb(4) == 7.0
