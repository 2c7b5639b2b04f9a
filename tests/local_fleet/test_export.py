"""An export's keep-set: that of a device class, or of any other sparsity."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import fedcore.local_fleet.export as module
from fedcore.core.errors import ConfigError, RunError
from fedcore.core.model.geometry import geometry_from_config
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.pruning.counts import keep_counts
from fedcore.core.pruning.ordering import initial_order
from fedcore.local_fleet.export import ExportRequest
from tests.tiny_run import MODEL

GEOMETRY = geometry_from_config(MODEL)  # one layer of 2 heads and 16 channels
FULL = KeepSet.full(GEOMETRY)
OUT = Path("out")


@dataclass
class FakeStrategy:
    """A strategy that keeps everything of every class."""

    name: str = "fake"
    spec: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(geometry=GEOMETRY))

    def export_keep_set(self, state: object, device_class: str) -> KeepSet:
        assert device_class == "nx"
        return FULL


def keep_set(request: ExportRequest, state: Any = None, classes: tuple[str, ...] = ("nx",)) -> KeepSet:
    strategy: Any = FakeStrategy()
    return module._keep_set(strategy, state or {}, request, list(classes))


def test_a_class_is_exported_as_its_strategy_prunes_it() -> None:
    request = ExportRequest(device_class="nx", sparsity=None, out=OUT)
    assert keep_set(request) == FULL
    assert keep_set(request, classes=()) == FULL, "a run without classes takes the strategy's word"


def test_an_unknown_class_is_named_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match=r"no device class 'tx2' in this run; it has \['nx'\]"):
        keep_set(ExportRequest(device_class="tx2", sparsity=None, out=OUT))


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, float("nan"), None])
def test_a_sparsity_is_below_1(sparsity: float | None) -> None:
    with pytest.raises(ConfigError, match=r"expected a number in \[0, 1\)"):
        keep_set(ExportRequest(device_class=None, sparsity=sparsity, out=OUT))


def test_a_strategy_without_an_order_exports_by_class_only() -> None:
    with pytest.raises(RunError, match="strategy fake keeps no removal order; export by --class"):
        keep_set(ExportRequest(device_class=None, sparsity=0.5, out=OUT))


def test_a_sparsity_prunes_by_the_fleet_s_order() -> None:
    state = {"order": {"fleet": initial_order(GEOMETRY, None)}}
    dense = keep_set(ExportRequest(device_class=None, sparsity=0.0, out=OUT), state)
    half = keep_set(ExportRequest(device_class=None, sparsity=0.5, out=OUT), state)
    assert dense == FULL
    assert half.is_subset_of(FULL) and half.counts == keep_counts(GEOMETRY, 0.5)
