"""The ServerApp: FedAvg as it comes, without evaluation on the nodes."""

import json
import time
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the rounds; write when each of them had ended, in seconds of the machine's monotonic clock."""
    config = context.run_config
    values = int(config["payload-bytes"]) // 4
    ended_s: list[float] = []

    def note(number: int, arrays: ArrayRecord) -> None:
        ended_s.append(time.monotonic())

    nodes = int(config["nodes"])
    strategy = FedAvg(fraction_evaluate=0.0, min_train_nodes=nodes, min_available_nodes=nodes)
    start = np.random.default_rng(0).standard_normal(values, dtype=np.float32)
    strategy.start(grid, ArrayRecord([start]), num_rounds=int(config["rounds"]), evaluate_fn=note)
    unfinished = Path(str(config["times"]) + ".part")
    unfinished.write_text(json.dumps(ended_s), encoding="utf-8")
    unfinished.rename(str(config["times"]))
