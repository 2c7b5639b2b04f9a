"""A tiny base model on disk, once, and fleets of fake devices around a coordinator in this event loop."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedcore.core.model.fingerprint import Fingerprint
from fedcore.core.model.geometry import Geometry
from fedcore.storage.models.checkpoint import fingerprint
from tests.fake_device import FakeDevice
from tests.tiny_run import PATIENCE_S, WIDE, Served, write_model


@dataclass(frozen=True)
class TinyModel:
    """A base model folder and what is known of it."""

    folder: Path
    geometry: Geometry
    mark: Fingerprint

    def device(self, served: Served, name: str, place: Path, **options: Any) -> FakeDevice:
        """Return a device of this model."""
        return FakeDevice(
            name=name, target=served.address, mark=self.mark, geometry=self.geometry, place=place, **options
        )


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """A model whose updates travel inside messages."""
    return _model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def wide(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """A model whose updates of rank 64 take more than one chunk."""
    return _model(tmp_path_factory.mktemp("wide") / "model", WIDE)


@pytest.fixture
def together() -> Callable[..., Any]:
    """Run devices until all of them have come to an end."""

    async def run(*devices: FakeDevice) -> list[Any]:
        return await asyncio.wait_for(asyncio.gather(*(device.run() for device in devices)), PATIENCE_S)

    return run


def _model(folder: Path, *rest: Any) -> TinyModel:
    geometry = write_model(folder, *rest)
    return TinyModel(folder=folder, geometry=geometry, mark=fingerprint(folder))
