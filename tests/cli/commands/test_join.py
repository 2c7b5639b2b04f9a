"""fedcore join: what the command line makes of its options, and when it gives up."""

import socket
from pathlib import Path

import pytest

from fedcore.client.options import ClientOptions, DeviceLimits
from fedcore.storage.folder_lock import FolderLock
from tests.cli.conftest import Fedcore


def test_two_devices_never_share_a_state_folder(place: Path, fedcore: Fedcore) -> None:
    (place / "state").mkdir()
    lock = FolderLock(place / "state", role="device", remedy="--state")
    said = fedcore("join", "127.0.0.1:9", "--name", "a", "--data", "rows.csv", "--insecure", "--state", "state")
    lock.release()
    assert said.code == 1 and "state is in use by a running device" in said.err and "--state" in said.err


@pytest.mark.parametrize("value", ["nan", "inf", "-5"])
def test_a_join_retries_for_a_finite_time(value: str, place: Path, fedcore: Fedcore) -> None:
    said = fedcore(*("join", "127.0.0.1:9", "--name", "a", "--data", "rows.csv", "--insecure", "--reconnect-s", value))
    assert said.code == 2 and "expected seconds, 0 or more" in said.err


def test_a_join_gives_up_where_no_server_answers(place: Path, fedcore: Fedcore) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and never listens
        words = ("--name", "cam", "--data", "rows.csv", "--insecure", "--state", "state", "--reconnect-s", "0")
        said = fedcore("join", f"127.0.0.1:{closed.getsockname()[1]}", *words)
    assert said.code == 1
    assert "gave up after 0 s: is the coordinator running and reachable?" in said.err


@pytest.mark.parametrize("command", ["join 127.0.0.1:9 --name a --data rows.csv --insecure", "simulate cfg.toml"])
def test_a_device_of_no_known_kind_is_refused(command: str, place: Path, fedcore: Fedcore) -> None:
    said = fedcore(*command.split(), "--device", "gpu")
    assert said.code != 0 and "--device: expected auto, cpu, cuda, mps or xpu, or one by number" in said.err


class FakeClient:
    """A device and an evaluator that keep their options and return at once."""

    def __init__(self) -> None:
        self.device: tuple[ClientOptions, DeviceLimits] | None = None
        self.evaluator: ClientOptions | None = None

    async def run_device(self, options: ClientOptions, limits: DeviceLimits) -> str:
        options.say("joined")
        self.device = options, limits
        return "the run has finished"

    async def run_evaluator(self, options: ClientOptions) -> str:
        self.evaluator = options
        return "the run has finished"


@pytest.fixture
def client(place: Path, monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    fake = FakeClient()
    monkeypatch.setattr("fedcore.client.device.run.run_device", fake.run_device)
    monkeypatch.setattr("fedcore.client.device.run.run_evaluator", fake.run_evaluator)
    return fake


def test_a_device_gets_every_option(place: Path, fedcore: Fedcore, client: FakeClient) -> None:
    data = (
        "--data rows.csv --text a --text b --label kind --test t.csv --shard 2/5 --partition iid --alpha 0.3 --seed 9"
    )
    limits = "--slowdown 2 --memory-mb 64 --uplink-mbps 1.5 --downlink-mbps 6 --network 5g --class nx"
    words = "b:2,a:1 --name cam-1 --insecure --model model --reconnect-s 7 --alive beat --device cuda:1"
    said = fedcore("join", *words.split(), *data.split(), *limits.split())
    assert (said.code, said.out) == (0, "cam-1: joined\ncam-1: the run has finished\n"), said.err
    assert client.device is not None
    options, device = client.device
    assert (options.targets, options.name, options.reconnect_s) == (("b:2", "a:1"), "cam-1", 7.0)
    assert (options.model, options.alive, options.tls) == (Path("model"), Path("beat"), None)
    assert options.device == "cuda:1"
    assert options.state == place / "home" / ".fedcore" / "cam-1"
    rows = options.data
    assert (rows.train, rows.test, rows.text, rows.label) == ("rows.csv", "t.csv", ("a", "b"), "kind")
    assert (rows.shard, rows.ask_shard, rows.partition, rows.alpha, rows.seed) == ((2, 5), False, "iid", 0.3, 9)
    assert (device.device_class, device.network) == ("nx", "5g")
    assert (device.slowdown, device.memory_mb, device.uplink_mbps, device.downlink_mbps) == (2.0, 64.0, 1.5, 6.0)


def test_replicas_take_a_name_and_ask_for_a_shard(place: Path, fedcore: Fedcore, client: FakeClient) -> None:
    words = "a:1 --name auto --shard auto --class nx --data rows.csv --insecure --state state"
    assert fedcore("join", *words.split()).out == "nx-0: joined\nnx-0: the run has finished\n"
    assert client.device is not None
    options, _ = client.device
    assert (options.data.shard, options.data.ask_shard, options.data.text) == (None, True, ("text",))
    assert options.state == Path("state") / "nx-0"


def test_an_evaluator_has_a_name_of_its_own(place: Path, fedcore: Fedcore, client: FakeClient) -> None:
    words = "a:1 --role evaluator --data rows.csv --insecure --name"
    refused = fedcore("join", *words.split(), "auto")
    assert refused.code == 1 and "--name auto is for devices; give the evaluator a name" in refused.err
    assert fedcore("join", *words.split(), "judge").out == "judge: the run has finished\n"
    assert client.evaluator is not None and client.evaluator.name == "judge" and client.device is None


def test_a_state_folder_is_free_again_after_the_run(place: Path, fedcore: Fedcore, client: FakeClient) -> None:
    words = ["a:1", "--name", "cam-1", "--data", "rows.csv", "--insecure", "--state", "state"]
    assert [fedcore("join", *words).code for _ in range(2)] == [0, 0]
