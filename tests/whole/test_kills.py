"""kill -9, of a device in the middle of a round and of the coordinator between two; without TLS, said aloud."""

import json
import signal
import sqlite3
from pathlib import Path

import pytest

from fedcore.core.contract.protocols import Json
from tests.whole.stage import Stage, Started, events, eventually, free_port, summary_of, texts

pytestmark = pytest.mark.slow

CONFIG = """
[run]
name = "kills"
rounds = 4
[model]
path = "{model}"
max_length = 16
[data]
labels = ["neg", "pos"]
[strategy]
ranks = [2]
target_sparsity = 0.3
warmup_rounds = 1
recovery_rounds = 0
[training]
local_steps = 4
batch_size = 8
[coordinator]
min_devices = 3
lease_s = 4.0
round_deadline_s = 60.0
"""
STEADY = ("a", "b")


def rounds_closed(run: Path) -> list[Json]:
    return events(run, "round_closed")


def statuses(told: Json) -> dict[str, str]:
    return {row["device"]: row["status"] for row in told["results"]}


def test_a_run_survives_the_death_of_a_device_and_of_its_coordinator(stage: Stage, bert: Path) -> None:
    rows = stage.root / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in texts(("neg", "pos"), 60))
    )
    (stage.root / "cfg.toml").write_text(CONFIG.format(model=bert))
    run, address = stage.root / "run", f"127.0.0.1:{free_port()}"

    def join(name: str, *words: object) -> Started:
        share = ("--shard", f"{'abc'.index(name) + 1}/3", "--partition", "iid", "--state", f"state-{name}")
        own = ("--name", name, "--data", rows, "--model", bert, *share)
        return stage.start(name, "join", address, *own, "--insecure", *words)

    listen = ("--set", f"coordinator.listen={address}")
    coordinator = stage.start("serve", "serve", "cfg.toml", *listen, "--run-dir", "run", "--insecure")
    steady = [join(name, "--slowdown", 10) for name in STEADY]
    victim = join("c", "--slowdown", 300)

    # The device dies in the middle of round 1: its lease runs out, the round closes with the others.
    taken = lambda: {each["device"] for each in events(run, "accepted")}  # noqa: E731
    eventually("the others deliver round 1", lambda: taken() >= set(STEADY))
    assert taken() == set(STEADY) and not rounds_closed(run)
    victim.process.send_signal(signal.SIGKILL)
    eventually("round 1 closes without the dead", lambda: rounds_closed(run))
    assert (rounds_closed(run)[0]["accepted"], rounds_closed(run)[0]["devices"]) == (2, 3)
    # The event is written just before the commit; a coordinator that dies between the two plays the round again.
    eventually("round 2 is handed out", lambda: any(each["round"] == 2 for each in events(run, "pushed")))

    # The coordinator dies at the boundary. The device is started again with its state, and waits with the others.
    coordinator.process.send_signal(signal.SIGKILL)
    assert coordinator.ends() == -signal.SIGKILL
    shown = stage.run("show", "run")
    assert "not running; go on with: fedcore serve --resume run" in shown.stdout
    victim = join("c")
    resumed = stage.start("resumed", "serve", "--resume", "run", "--insecure")
    assert resumed.ends() == 0, resumed.output()
    assert [each.ends(20) for each in (*steady, victim)] == [0, 0, 0]

    summary = summary_of(run)
    assert [each["round"] for each in summary["rounds"]] == [1, 2, 3, 4]
    assert statuses(summary["rounds"][0]) == {"a": "accepted", "b": "accepted", "c": "lost"}
    assert statuses(summary["rounds"][-1]) == dict.fromkeys("abc", "accepted")
    assert [each["round"] for each in rounds_closed(run)] == [1, 2, 3, 4]
    with sqlite3.connect(run / "ledger.sqlite") as ledger:
        assert ledger.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    replayed = json.loads(stage.run("show", "run", "--replay", "--json").stdout)
    assert replayed["replayed_choices"] == sum(each["devices"] for each in summary["rounds"])
    assert summary["global"]["final"] is None  # nobody came to measure, and nobody was waited for
    assert "no evaluator answered" in resumed.output()
    for each in (coordinator, resumed, *steady, victim):
        assert "WARNING: --insecure: no encryption" in each.output()
        assert "Traceback" not in each.output()
    assert "WITHOUT TLS" in resumed.output()
    assert all("the run has finished" in each.output() for each in (*steady, victim))
