import pytest

from fedcore.core.model.support import unsupported


@pytest.mark.parametrize("config", [{}, {"quantization_config": None}, {"position_embedding_type": "absolute"}])
def test_nothing_speaks_against_a_plain_config(config: dict[str, object]) -> None:
    assert unsupported(config) is None


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ({"quantization_config": {"bits": 4}}, "the weights are quantized"),
        ({"position_embedding_type": "relative_key"}, "'relative_key' is not supported; expected 'absolute'"),
    ],
)
def test_what_no_device_can_train_on_is_told(config: dict[str, object], why: str) -> None:
    assert why in str(unsupported(config))
