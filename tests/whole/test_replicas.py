"""Replicas of one command line, as containers start them: names and shards of their own, over stops and a new run."""

from pathlib import Path

import pytest

from tests.whole.stage import Stage, Started, events, eventually, free_port, summary_of, texts

pytestmark = pytest.mark.slow

CONFIG = """
[run]
name = "again"
rounds = 3
[model]
path = "{model}"
max_length = 16
[data]
labels = ["neg", "pos"]
shards = 3
[strategy]
name = "fedavg-lora"
target_sparsity = 0.0
ranks = [2]
[training]
local_steps = 2
[coordinator]
listen = "127.0.0.1:{port}"
min_devices = 2
[evaluation]
rows_per_round = 0
deadline_s = 1.0
"""


@pytest.mark.long
def test_replicas_go_on_through_a_restart_and_come_again_to_the_next_run(stage: Stage, bert: Path) -> None:
    port = free_port()
    (stage.root / "cfg.toml").write_text(CONFIG.format(model=bert, port=port))
    rows = "".join(f"{text},{label}\n" for text, label in texts(("neg", "pos"), 60))
    (stage.root / "rows.csv").write_text("text,label\n" + rows)

    def serve() -> Started:
        return stage.start("serve", "serve", "cfg.toml", "--continue", "--insecure")

    def replica(number: int) -> Started:
        return stage.start(
            *(f"replica-{number}", "join", f"127.0.0.1:{port}", "--insecure", "--data", "rows.csv", "--model", bert),
            *("--name", "auto", "--class", "nx", "--shard", "auto", "--state", "state", "--alive", f"alive-{number}"),
        )

    coordinator, replicas = serve(), [replica(number) for number in range(2)]
    first = stage.root / "runs" / "again"
    eventually("a round is closed", lambda: events(first, "committed"))
    coordinator.process.terminate()
    assert coordinator.ends() == 1 and "stopped on request" in coordinator.output()
    coordinator = serve()
    assert coordinator.ends() == 0, coordinator.output()
    assert "going on with runs/again" in coordinator.output()
    for each in replicas:
        assert each.ends() == 0, each.output()
        assert "the run has finished" in each.output() and "its rows are shard" in each.output()
    summary = summary_of(first)
    assert [each["round"] for each in summary["rounds"]] == [1, 2, 3]
    rows_of = {each["device"]: each["num_examples"] for each in events(first, "joined")}
    assert set(rows_of) == {"nx-0", "nx-1"} and all(0 < count < 60 for count in rows_of.values())
    assert sorted(path.name for path in (stage.root / "state").iterdir()) == ["nx-0", "nx-1"]
    assert (stage.root / "alive-0").is_file() and (stage.root / "alive-1").is_file()

    coordinator = serve()  # that run has finished: this is the next one
    eventually("the next run listens", (stage.root / "runs" / "again-2" / "coordinator.json").is_file)
    assert stage.run("health", "runs/again-2").returncode == 0
    coordinator.process.terminate()
    assert coordinator.ends() == 1
