"""A fleet before its first process: what is refused, and the rows that it would deal."""

from pathlib import Path

import pytest

import fedcore.local_fleet.preflight as module
from fedcore.core.config.tables import Config
from fedcore.core.config.toml import parse_config
from fedcore.core.errors import ConfigError, DataError, JoinRefused
from fedcore.local_fleet.preflight import checked, member_devices, ready_fleet, try_model
from tests.checkup.checked_runs import CONFIG
from tests.tiny_run import WIDE, write_model


def config_of(folder: Path, *overrides: str) -> Config:
    if not (folder / "model").exists():
        write_model(folder / "model", WIDE)
    rows = "".join(f"text number {number},{('neg', 'pos')[number % 2]}\n" for number in range(40))
    (folder / "rows.csv").write_text("text,label\n" + rows)
    return parse_config(CONFIG.format(folder=folder), overrides)


def test_a_ready_fleet_has_labels_strategy_and_rows(tmp_path: Path) -> None:
    said: list[str] = []
    config = config_of(tmp_path)
    ready = ready_fleet(config, said.append)
    assert ready.config.data.labels == ("neg", "pos") and ready.strategy.name == "fedspine" and said == []
    assert checked(config) == ready.config
    rows = ready.rows()
    assert rows.rows == len(ready.training) and rows.held_back == len(ready.test)
    assert [(device.device, device.device_class) for device in rows.devices] == [
        ("agx-0", "agx"),
        ("agx-1", "agx"),
        ("tx2-0", "tx2"),
    ]
    assert max(device.rows for device in rows.devices) - min(device.rows for device in rows.devices) <= 1, "iid"


def test_a_class_that_asks_for_an_accelerator_gets_it(tmp_path: Path) -> None:
    config = config_of(tmp_path, "fleet.class.agx.device=cuda:1", "fleet.class.tx2.device=cpu")
    assert member_devices(config, ("cuda:0", "cuda:1")) == ("cuda:1", "cuda:1", "cpu", "cuda:0")
    with pytest.raises(ConfigError, match=r"fleet\.class agx: device: no cuda:1: PyTorch finds no accelerator here"):
        member_devices(config, ())


def test_a_fleet_is_refused_where_an_accelerator_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "check_model", lambda folder, **how: ("cuda:0",))
    assert try_model(config_of(tmp_path)) == ("cuda:0",)
    with pytest.raises(ConfigError, match=r"fleet\.class agx: device: no xpu on this machine, which has cuda:0"):
        try_model(config_of(tmp_path, "fleet.class.agx.device=xpu"))


def test_rows_follow_the_seed_of_the_run(tmp_path: Path) -> None:
    split = ("data.partition=dirichlet", "data.alpha=0.5")
    first, again, other = (ready_fleet(config_of(tmp_path, *split, f"run.seed={seed}")).rows() for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize(
    ("overrides", "kind", "message"),
    [
        (["data.shards=2"], ConfigError, r"data\.shards is 2, fewer than the 3 devices"),
        (["fleet.class.agx.count=60"], DataError, "training rows are too few for 61 devices"),
        (["coordinator.min_devices=9"], ConfigError, r"min_devices is 9, but the \[\[fleet\.class\]\] tables make 3"),
        (["coordinator.min_devices=3", "fleet.class.tx2.memory_mb=1"], JoinRefused, "2 of 3 devices would be left"),
    ],
)
def test_a_fleet_that_cannot_begin_is_refused(
    overrides: list[str], kind: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(kind, match=message):
        ready_fleet(config_of(tmp_path, *overrides))
