"""A fleet of processes below an edge that learns to write: chats out of Parquet, exports that plain tools open."""

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.simulation.test_generation_run import dialogues
from tests.tiny_models import tiny_model
from tests.whole.stage import Stage, events, summary_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CONFIG = """
[run]
name = "chats"
rounds = 2
[task]
kind = "generation"
template = "chatml"
generated_rows = 4
answer_tokens = 6
[model]
path = "{model}"
max_length = 32
[data]
train = "rows.parquet"
partition = "iid"
replay = "texts.jsonl"
[strategy]
ranks = [2]
warmup_rounds = 1
recovery_rounds = 0
target_sparsity = 0.3
bandit = "fixed"
[training]
local_steps = 6
batch_size = 4
learning_rate = 0.01
distill = 0.5
[evaluation]
rows_per_round = 8
[fleet]
edges = [1]
[[fleet.class]]
name = "nx"
count = 2
"""


def test_a_fleet_below_an_edge_learns_to_write(stage: Stage) -> None:
    model = tiny_model(stage.root / "llama", "llama-gqa", writes=True)
    chats = [
        [{"role": "user", "content": asked}, {"role": "assistant", "content": told}] for asked, told in dialogues()
    ]
    pyarrow.parquet.write_table(pyarrow.table({"messages": chats}), stage.root / "rows.parquet")
    (stage.root / "texts.jsonl").write_text('{"text": "the plot was great and very dull"}\n' * 3)
    (stage.root / "cfg.toml").write_text(CONFIG.format(model=model))
    done = stage.run("fleet", "cfg.toml", "--plain", timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    run = stage.root / "runs" / "chats"
    summary = summary_of(run)
    assert summary["run"]["task"] == "generation" and len(summary["global"]["final"]["samples"]) == 4
    assert summary["global"]["final"]["perplexity"] < summary["global"]["untrained"]["perplexity"]
    # A device that comes before the edge joins the coordinator itself.
    assert "edge-1-0" in {event.get("via") for event in events(run, "joined") if event["role"] == "device"}
    assert any(event.get("samples") for event in events(run, "evaluated"))
    assert "replays general texts" not in "".join(log.read_text() for log in (run / "logs").glob("nx*"))
    reopened(run / "exports" / "nx")
    again = stage.run("export", run, "--sparsity", "0.5", "--out", "half")
    assert again.returncode == 0, again.stdout + again.stderr
    assert json.loads((stage.root / "half" / "generation_config.json").read_text())["eos_token_id"] == 3


def reopened(folder: Path) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(folder).eval()
    probe = load_file(folder / "probe.safetensors")
    logits = probe.pop("logits")
    with torch.no_grad():
        torch.testing.assert_close(model(**probe).logits, logits, rtol=1e-4, atol=1e-5)
    assert "<|im_start|>" in AutoTokenizer.from_pretrained(folder).chat_template
