"""An engine is made from configuration, base model and ledger, and goes on where the ledger stands."""

from pathlib import Path

import numpy as np
import pytest

from fedcore.core.errors import RunError
from fedcore.core.rounds.commands import Turn
from fedcore.server.aggregate.assemble import make_engine, read_snapshot
from fedcore.server.run.run import Run
from fedcore.server.run.run_folder import RunFolder
from fedcore.strategies.table import make_strategy
from tests.server.aggregate.test_engine import DEVICES, PROFILES, PRUNING, open_engine
from tests.server.conftest import TinyModel
from tests.tiny_run import LABELS, tiny_config


@pytest.mark.parametrize("large_bytes", [0, 1 << 30], ids=["large", "small"])
def test_a_reopened_run_goes_on_with_the_same_bits_and_the_same_plan(
    tiny: TinyModel, tmp_path: Path, large_bytes: int
) -> None:
    folder = RunFolder(tmp_path)
    first = open_engine(folder, tiny, PRUNING)
    first.engine.model.large_bytes = large_bytes
    works = first.begin()
    first.count(works)
    planned = first.close(1)
    first.engine.log.close()
    first.engine.ledger.close()
    again = open_engine(folder, tiny, PRUNING, resume=True)
    assert again.engine.model.adapter == first.engine.model.adapter
    assert all(
        np.array_equal(value, first.engine.model.tensors[name]) for name, value in again.engine.model.tensors.items()
    )
    assert again.begin(2) == planned
    again.engine.log.close()
    again.engine.ledger.close()
    config = tiny_config(tiny.folder, PRUNING)
    held = read_snapshot(folder, config, tiny.folder)
    assert held.labels == LABELS
    assert all(np.array_equal(value, first.engine.model.tensors[name]) for name, value in held.tensors.items())


def test_a_run_without_a_closed_round_has_nothing_to_export(tiny: TinyModel, tmp_path: Path) -> None:
    played = open_engine(RunFolder(tmp_path), tiny, [])
    played.begin()
    played.engine.log.close()
    played.engine.ledger.close()
    with pytest.raises(RunError, match="has no closed round yet; there is nothing to export"):
        read_snapshot(RunFolder(tmp_path), tiny_config(tiny.folder), tiny.folder)


def test_an_engine_runs_the_strategy_it_is_given_without_a_model(tiny: TinyModel, tmp_path: Path) -> None:
    config = tiny_config(tiny.folder)
    head = (("head.weight", (3, 5)),)
    strategy = make_strategy(config, tiny.geometry, head)
    untrained = {name: np.full(shape, 0.5, np.float32) for name, shape in strategy.spec.shapes().items()}
    folder = RunFolder(tmp_path)
    run = Run.create(folder, config, tmp_path / "nowhere", base_model="none")
    run.open_log()
    engine = make_engine(run, LABELS, strategy=strategy, untrained=untrained)
    works = engine.turn(Turn(closed=None, next_round=1, roster=DEVICES), PROFILES, 0).assignments
    assert works.keys() == set(DEVICES) and engine.strategy is strategy
    np.testing.assert_array_equal(engine.model.tensors["head.weight"], untrained["head.weight"])
    run.close()
