"""Somebody who was given an export and knows nothing of fedcore: plain transformers and peft in their own process."""

import json
import subprocess
import sys
from pathlib import Path

from fedcore.core.contract.protocols import Json
from tests.whole.stage import PATIENCE_S, Stage

SCRIPT = """
import json, sys
for name in ("fedcore", "client", "server", "strategies", "storage", "protos", "fleet", "cli"):
    sys.modules[name] = None  # importing it raises ImportError
from pathlib import Path
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForSequenceClassification

asked, told = json.loads(sys.argv[1]), {}
for folder in map(Path, asked["exports"]):
    model = AutoModelForSequenceClassification.from_pretrained(folder, trust_remote_code=asked["trust"]).eval()
    facts = {
        "class": type(model).__name__,
        "parameters": sum(each.numel() for each in model.parameters()),
        "labels": [model.config.id2label[index] for index in range(model.config.num_labels)],
    }
    if (folder / "probe.safetensors").is_file():
        probe = load_file(folder / "probe.safetensors")
        logits = probe.pop("logits")
        with torch.no_grad():
            facts["error"] = (model(**probe).logits - logits).abs().max().item()
        facts["rows"] = len(logits)
    told[folder.name] = facts

base = AutoModel.from_pretrained(asked["base"])
adapted = PeftModel.from_pretrained(base, asked["adapter"]).eval()
ids = torch.randint(4, 18, (3, 9), generator=torch.Generator().manual_seed(0))
with torch.no_grad():
    with_adapter = adapted(input_ids=ids).last_hidden_state
    with adapted.disable_adapter():
        without = adapted(input_ids=ids).last_hidden_state
    backbone = getattr(model, "backbone", None) or model.model  # of the last export, which is not pruned
    merged = backbone(input_ids=ids)[0]
told["adapter"] = {
    "off by": (with_adapter - merged).abs().max().item(),
    "changes": (with_adapter - without).abs().max().item(),
}
print(json.dumps(told))
"""


def ask_stranger(stage: Stage, *, exports: list[Path], base: Path, adapter: Path, trust: bool) -> Json:
    """Have every export loaded, its probe answered, and the adapter compared to the last export, which is dense."""
    asked = {"exports": [str(each) for each in exports], "base": str(base), "adapter": str(adapter), "trust": trust}
    done = subprocess.run(
        [sys.executable, "-I", "-c", SCRIPT, json.dumps(asked)],
        cwd=stage.home,
        env=stage.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told: Json = json.loads(done.stdout.splitlines()[-1])
    return told
