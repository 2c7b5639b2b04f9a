"""A model that writes below two tiers of edges, and with devices as containers start them and a killed coordinator."""

import json
import signal
from pathlib import Path

import pytest

from tests.simulation.test_generation_run import dialogues, exported
from tests.tiny_models import tiny_model
from tests.whole.stage import Stage, Started, events, eventually, free_port, summary_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CONFIG = """
[run]
name = "written"
rounds = 3
[task]
kind = "{task}"
generated_rows = 4
answer_tokens = 6
[model]
path = "llama"
max_length = 16
[data]
train = "rows.jsonl"
partition = "iid"
shards = 2
[strategy]
ranks = [2]
warmup_rounds = 1
recovery_rounds = 0
target_sparsity = 0.3
bandit = "fixed"
[training]
local_steps = 4
batch_size = 4
learning_rate = 0.01
codec = "{codec}"
[coordinator]
min_devices = 2
lease_s = 8.0
[evaluation]
rows_per_round = 4
"""
FLEET = """
[fleet]
edges = [1, 1]
[[fleet.class]]
name = "nx"
device = "cpu"
count = 2
"""


@pytest.fixture(autouse=True)
def files(stage: Stage) -> None:
    tiny_model(stage.root / "llama", "llama", writes=True)
    rows = [json.dumps({"prompt": asked, "response": told}) for asked, told in dialogues()]
    (stage.root / "rows.jsonl").write_text("\n".join(rows) + "\n")


def finished(stage: Stage, run: Path, codec: str) -> None:
    """Check what every finished run of this page has."""
    summary = summary_of(run)
    assert [told["round"] for told in summary["rounds"]] == [1, 2, 3]
    assert f'codec = "{codec}"' in (run / "config.toml").read_text()
    final = summary["global"]["final"]
    assert final["perplexity"] < 60 and len(final["samples"]) == 4, "untrained: about 120"
    delivered = summary["classes"]["nx"]
    assert delivered["realised_sparsity"] > 0.2 and delivered["test"]["exact_match"] is not None
    exported(run / "exports" / "nx")


def test_edges_of_two_tiers_fold_quantised_updates_of_a_model_that_writes(stage: Stage) -> None:
    codec = "ef+int8+zstd"
    (stage.root / "cfg.toml").write_text(CONFIG.format(task="auto", codec=codec) + FLEET)
    done = stage.run("fleet", "cfg.toml", "--plain", "--run-dir", "run", timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "task: generation, by the columns of the rows" in done.stdout + done.stderr
    run = stage.root / "run"
    joined = events(run, "joined")
    assert {event["device"] for event in joined if event["role"] == "edge"} == {"edge-1-0"}
    assert {event["device"] for event in events(run, "accepted")} == {"nx-0", "nx-1"}
    finished(stage, run, codec)


def test_devices_as_in_containers_write_on_after_their_coordinator_is_killed(stage: Stage) -> None:
    codec, address = "topk:0.25+int8", f"127.0.0.1:{free_port()}"
    text = CONFIG.format(task="generation", codec=codec)
    (stage.root / "cfg.toml").write_text(text.replace("min_devices", f'listen = "{address}"\nmin_devices'))
    run = stage.root / "runs" / "written"

    def serve(name: str) -> Started:
        return stage.start(name, "serve", "cfg.toml", "--continue", "--await-evaluator", "--insecure")

    def join(name: str, *words: object) -> Started:
        own = ("--model", "llama", "--data", "rows.jsonl", "--test-fraction", 0.2, "--alive", f"alive-{name}")
        return stage.start(name, "join", address, *own, "--insecure", "--device", "cpu", *words)

    replica = ("--name", "auto", "--class", "nx", "--shard", "auto", "--state", "state", "--slowdown", 5)
    coordinator = serve("coordinator")
    members = [join(f"replica-{number}", *replica) for number in range(2)]
    members.append(join("evaluator", "--role", "evaluator", "--name", "evaluator", "--state", "own"))
    eventually("round 2 is handed out", lambda: any(each["round"] == 2 for each in events(run, "pushed")))
    coordinator.process.send_signal(signal.SIGKILL)
    assert coordinator.ends() == -signal.SIGKILL
    resumed = serve("resumed")
    assert resumed.ends() == 0, resumed.output()
    for member in members:
        assert member.ends(30) == 0 and "Traceback" not in member.output(), member.output()
    rows = {event["device"]: event["num_examples"] for event in events(run, "joined") if event["role"] == "device"}
    assert set(rows) == {"nx-0", "nx-1"} and 40 < sum(rows.values()) < 60
    finished(stage, run, codec)
