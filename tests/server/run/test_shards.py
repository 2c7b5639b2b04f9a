"""Shards given to devices: none twice, each kept over restarts, the words where there is none."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcore.core.errors import ConfigError, JoinRefused
from fedcore.core.seeds import derive_seed
from fedcore.protos.values import Newcomer, Shard
from fedcore.server.run.ledger import Ledger
from fedcore.server.run.shards import Shards
from tests.tiny_run import tiny_config


def asking(name: str, uuid: str = "", device_class: str = "nx") -> Newcomer:
    return Newcomer(name=name, device_class=device_class, wants_shard=True, device_uuid=uuid or f"uuid of {name}")


class Desk:
    """A ledger in a folder, and the shards of a run that can be begun anew over it."""

    def __init__(self, root: Path, overrides: Sequence[str]) -> None:
        self.config = tiny_config(root / "model", overrides)
        self.path = root / "ledger.sqlite"
        self.ledger = Ledger.create(self.path, run_id="r", config_toml="", fingerprint="")
        self.shards = Shards(self.config, self.ledger)

    def resume(self) -> None:
        self.ledger.close()
        self.ledger = Ledger.open(self.path)
        self.shards = Shards(self.config, self.ledger)

    def index(self, *asked: Newcomer) -> list[int]:
        return [self.shards.of(each).index for each in asked]


def test_a_shard_is_cut_as_a_local_fleet_of_the_seed_cuts_it(tmp_path: Path) -> None:
    desk = Desk(tmp_path, ["data.shards=3", "data.alpha=0.5", "data.partition=iid", "run.seed=7"])
    expected = Shard(index=1, count=3, partition="iid", alpha=0.5, seed=derive_seed(7, "partition"))
    assert desk.shards.of(asking("nx-0")) == expected


def test_every_device_keeps_its_own_over_a_resume(tmp_path: Path) -> None:
    desk = Desk(tmp_path, ["data.shards=4"])
    assert desk.index(asking("a"), asking("b"), asking("a"), asking("c"), asking("b")) == [1, 2, 1, 3, 2]
    desk.resume()
    assert desk.index(asking("c"), asking("d"), asking("a")) == [3, 4, 1]


def test_a_device_that_lost_its_state_keeps_its_shard_by_name(tmp_path: Path) -> None:
    desk = Desk(tmp_path, ["data.shards=2"])
    assert desk.index(asking("a", "old"), asking("a", "new"), asking("b")) == [1, 1, 2]


def test_a_device_that_was_renamed_keeps_its_shard_by_uuid_within_its_class(tmp_path: Path) -> None:
    desk = Desk(tmp_path, ["data.shards=3"])
    assert desk.index(asking("a", "u"), asking("b", "u"), asking("a", "v")) == [1, 1, 2]
    assert desk.index(asking("c", "u", device_class="tx2")) == [3], "another class's uuid proves nothing"


def test_devices_without_a_uuid_are_told_apart_by_name(tmp_path: Path) -> None:
    desk = Desk(tmp_path, ["data.shards=2"])
    unknown = [Newcomer(name=name, device_class="nx", wants_shard=True) for name in ("a", "b")]
    assert desk.index(*unknown) == [1, 2]


def test_a_run_without_shards_says_how_to_have_some(tmp_path: Path) -> None:
    desk = Desk(tmp_path, [])
    with pytest.raises(JoinRefused, match=r"nx-0 asks for a shard, and this run hands out none; .*data\.shards=N"):
        desk.shards.of(asking("nx-0"))


def test_one_too_many_is_told_what_to_do(tmp_path: Path) -> None:
    desk = Desk(tmp_path, ["data.shards=2"])
    desk.index(asking("a"), asking("b"))
    for _ in range(2):
        with pytest.raises(JoinRefused, match=r"all 2 are given, the last one to b; .*larger data\.shards"):
            desk.shards.of(asking("c"))
    assert desk.index(asking("b")) == [2]


@pytest.mark.parametrize("change", [{"name": "NX"}, {"name": ""}, {"device_class": "n x"}])
def test_a_name_that_is_none_gets_no_shard(change: dict[str, str], tmp_path: Path) -> None:
    desk = Desk(tmp_path, ["data.shards=2"])
    with pytest.raises(ConfigError):
        desk.shards.of(Newcomer(**{"name": "a", "device_class": "nx", **change}, wants_shard=True))  # type: ignore[arg-type]
    assert desk.index(asking("a")) == [1]


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=30))
@settings(max_examples=25, deadline=None)
def test_no_two_devices_ever_hold_one_shard(tmp_path_factory: pytest.TempPathFactory, asked: list) -> None:  # type: ignore[type-arg]
    desk = Desk(tmp_path_factory.mktemp("desk"), ["data.shards=4"])
    held: dict[str, int] = {}
    for name, resumes in asked:
        if resumes:
            desk.resume()
        try:
            (index,) = desk.index(asking(name))
        except JoinRefused:
            assert len(held) == 4 and name not in held
            continue
        assert held.setdefault(name, index) == index
    assert sorted(held.values()) == list(range(1, len(held) + 1))
    desk.ledger.close()
