"""An accelerator at work: seconds and memory of a training step by precision, and a fleet's rounds on it.

    python -m benchmarks.gpu [MODEL]      MODEL: a folder, or fetch:NAME; fetch:minilm by default

Without an accelerator it says so and ends well. It has not run on one yet: no GPU was at hand when it was written.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from fedcore.core.contract.assignment import TrainingSpec
from fedcore.core.precision import FLOAT32
from fedcore.nn.accelerator.clock import synchronised
from fedcore.nn.accelerator.memory import free_memory
from fedcore.nn.accelerator.precision import precision_for
from fedcore.nn.accelerator.present import accelerators
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.lora import attach
from fedcore.nn.training.batches import EncodedRows
from fedcore.nn.training.train import TrainingAids, train
from fedcore.storage.models.model_source import model_folder

ROWS, WIDTH, STEPS = 16, 128, 20
FLEET = ("-m", "fedcore", "fleet", "examples/quickstart.toml", "--set", "run.rounds=2")
FLEET_S = 300.0
SPEC = TrainingSpec(
    batch_size=ROWS,
    learning_rate=1e-4,
    weight_decay=0.0,
    lora_scale=2.0,
    importance="magnitude",
    keep_optimizer=False,
    codec="identity",
)


def main(model: str = "fetch:minilm") -> None:
    """Measure on the first accelerator, and print a line for every figure."""
    found = accelerators()
    if not found:
        print("no accelerator: PyTorch finds none here, so there is nothing to measure")
        return
    device, folder = found[0], model_folder(model)
    print(f"{device}: {free_memory(device)}; {ROWS} rows of {WIDTH} tokens a step")
    for precision in dict.fromkeys((FLOAT32, precision_for("auto", device))):
        seconds, peak_mb = measured(folder, device, precision)
        print(f"{precision}: {seconds * 1e3:.1f} ms a step, {peak_mb:.0f} MiB at its peak")
    begin = time.perf_counter()
    subprocess.run([sys.executable, *FLEET], check=True, timeout=FLEET_S)
    print(f"two rounds of the quickstart's fleet: {time.perf_counter() - begin:.0f} s with its start")


def measured(folder: Path, device: str, precision: str) -> tuple[float, float]:
    """Return the median seconds of a training step, and its peak memory in MiB."""
    classifier = load_classifier(folder, labels=("a", "b"), device=device, precision=precision)
    attach(classifier, rank=8, scale=2.0, targets=classifier.geometry.modules)
    drawn = np.random.default_rng(0).integers(5, 1000, size=(4 * ROWS, WIDTH))
    rows = EncodedRows(
        token_ids=tuple(map(tuple, drawn.tolist())), segment_ids=(), labels=np.arange(4 * ROWS) % 2, pad_id=0
    )
    clock, marks = synchronised(time.perf_counter, device), list[float]()
    aids = TrainingAids(on_step=lambda step, loss: marks.append(clock()))
    result = train(classifier, rows, spec=SPEC, steps=STEPS, seed=0, aids=aids)
    return float(statistics.median(np.diff(marks[2:]))), result.metrics.peak_memory_mb


if __name__ == "__main__":
    main(*sys.argv[1:])
