"""The server optimiser's velocity: committed with the adapter, left alone by void rounds, kept by a resume."""

from pathlib import Path

import numpy as np
import pytest

from fedcore.core.errors import RunError
from fedcore.server.run.run_folder import RunFolder
from tests.server.aggregate.test_engine import Played, open_engine
from tests.server.conftest import TinyModel

DILOCO = ["strategy.name=diloco", "strategy.server_lr=0.5", "run.rounds=9"]
Arrays = dict[str, np.ndarray]  # type: ignore[type-arg]


def begun(root: Path, tiny: TinyModel, *, resume: bool = False, overrides: list[str] = DILOCO) -> Played:
    root.mkdir(exist_ok=True)
    return open_engine(RunFolder(root), tiny, overrides, resume=resume)


def play(played: Played, first: int, last: int, *, void: tuple[int, ...] = (), left: tuple[int, ...] = ()) -> None:
    assignments = played.begin(first)
    for number in range(first, last + 1):
        accepted = ("a",) if number in left else ("a", "b")
        played.count({device: assignments[device] for device in accepted} if number not in void else {})
        assignments = played.close(number, void=number in void, accepted=accepted if number not in void else ())


def end(played: Played) -> None:
    played.engine.log.close()
    played.engine.ledger.close()


def held(tensors: object) -> Arrays:
    return {name: value.copy() for name, value in dict(tensors).items()}  # type: ignore[call-overload]


def equal(one: Arrays, other: Arrays) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(value, other[name]) for name, value in one.items())


def test_rounds_move_by_lr_times_nesterov_of_their_mean_increments(tiny: TinyModel, tmp_path: Path) -> None:
    plain = begun(tmp_path / "plain", tiny, overrides=["run.rounds=9", "strategy.ranks=[4]"])
    start = held(plain.engine.model.tensors)
    play(plain, 1, 1)
    first = held(plain.engine.model.tensors)
    play(plain, 2, 2)
    second = held(plain.engine.model.tensors)
    outer = begun(tmp_path / "outer", tiny, overrides=[*DILOCO, "strategy.ranks=[4]"])
    assert outer.engine.model.velocity is None and equal(held(outer.engine.model.tensors), start)
    play(outer, 1, 2)
    assert outer.engine.model.velocity is not None
    for name, value in start.items():
        one, two = first[name] - value, second[name] - first[name]  # what devices say does not depend on the adapter
        velocity = 0.9 * one + two
        np.testing.assert_allclose(outer.engine.model.velocity[name], velocity, atol=1e-6)
        moved = value + 0.5 * (0.9 * one + one) + 0.5 * (0.9 * velocity + two)
        np.testing.assert_allclose(outer.engine.model.tensors[name], moved, atol=1e-6)
        assert one.any() and two.any()
    assert not list(plain.folder.globals.glob("velocity*")) and len(plain.engine.ledger.load().global_blobs) == 1
    for each in (plain, outer):
        end(each)


def test_a_void_round_leaves_the_velocity_alone(tiny: TinyModel, tmp_path: Path) -> None:
    played = begun(tmp_path / "run", tiny)
    play(played, 1, 1)
    velocity, tensors = held(played.engine.model.velocity), held(played.engine.model.tensors)
    play(played, 2, 2, void=(2,))
    assert equal(held(played.engine.model.velocity), velocity) and equal(held(played.engine.model.tensors), tensors)
    blobs = played.engine.ledger.load().global_blobs
    assert [name for name, _ in blobs] == ["round-1", "velocity-1"]
    end(played)
    resumed = begun(tmp_path / "run", tiny, resume=True)
    assert equal(held(resumed.engine.model.velocity), velocity)
    end(resumed)


def test_a_resumed_run_keeps_the_velocity_bit_for_bit(tiny: TinyModel, tmp_path: Path) -> None:
    whole = begun(tmp_path / "whole", tiny)
    play(whole, 1, 5, void=(3,), left=(2, 4))
    broken = begun(tmp_path / "broken", tiny)
    play(broken, 1, 3, void=(3,), left=(2,))
    end(broken)
    resumed = begun(tmp_path / "broken", tiny, resume=True)
    play(resumed, 4, 5, left=(4,))
    assert equal(held(whole.engine.model.tensors), held(resumed.engine.model.tensors))
    assert equal(held(whole.engine.model.velocity), held(resumed.engine.model.velocity))
    files = sorted(path.name for path in resumed.folder.globals.iterdir())
    assert files == [f"{kind}-0000000{number}.safetensors" for kind in ("round", "velocity") for number in (4, 5)]
    for each in (whole, resumed):
        end(each)


def test_a_velocity_that_is_not_the_committed_one_is_refused(tiny: TinyModel, tmp_path: Path) -> None:
    played = begun(tmp_path / "run", tiny)
    play(played, 1, 1)
    end(played)
    path = played.folder.globals / "velocity-00000001.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(RunError, match=r"velocity-00000001\.safetensors is damaged: .* restore it from a copy"):
        begun(tmp_path / "run", tiny, resume=True)


def test_an_adapter_above_the_small_size_goes_the_same_way(tiny: TinyModel, tmp_path: Path) -> None:
    small, large = (begun(tmp_path / name, tiny) for name in ("small", "large"))
    large.engine.model.large_bytes = 0
    for each in (small, large):
        play(each, 1, 2)
    assert equal(held(small.engine.model.velocity), held(large.engine.model.velocity))
    assert equal(held(small.engine.model.tensors), held(large.engine.model.tensors))
    for each in (small, large):
        end(each)
