"""What whole-process tests share: tiny models on disk, stages, and one finished fleet for many questions."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tiny_models import tiny_model
from tests.whole.stage import Stage


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "bert", "bert")


@pytest.fixture(scope="session")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("models") / "llama", "llama-gqa")


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = Stage(tmp_path)
    yield made
    made.close()
