"""A Flower app over our coordinator: seconds per round, bytes and memory, by payload and number of devices.

`python -m benchmarks.flower_apps`. The ServerApp is FedAvg by the book, the ClientApp gives back what it got; every
device is a process of its own, on loopback, without TLS. docs/how-to/flower.md sets Flower's own transport beside it.
"""

import asyncio
import multiprocessing
import resource
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

from benchmarks.report import emit, parser
from fedcore.client.flower.join import AppDeviceOptions, join_app
from fedcore.server.flower.serve import AppOptions, serve_app

CASES = ((2, 1_000), (2, 10_000_000), (2, 100_000_000), (10, 1_000), (10, 10_000_000))  # devices, bytes
QUICK = ((2, 1_000), (2, 10_000_000))
MEGABYTE = 1e6
MEBIBYTE_KIB = 1024  # ru_maxrss is in KiB on Linux


def client_app() -> ClientApp:
    """Give back what came, as trained."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        metrics = MetricRecord({"num-examples": 1})
        return Message(RecordDict({"arrays": message.content["arrays"], "metrics": metrics}), reply_to=message)

    return app


def server_app(devices: int, size: int, rounds: int, seconds: list[float]) -> ServerApp:
    """FedAvg for some rounds; how long each took, but for the first, goes to `seconds`."""
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        while len(list(grid.get_node_ids())) < devices:
            time.sleep(0.05)
        strategy = FedAvg(
            min_train_nodes=devices, min_available_nodes=devices, fraction_evaluate=0.0, min_evaluate_nodes=0
        )
        arrays = ArrayRecord({"w": Array(np.zeros(size // 4, dtype=np.float32))})
        for _ in range(rounds + 1):
            begin = time.perf_counter()
            strategy.start(grid, arrays, num_rounds=1)
            seconds.append(time.perf_counter() - begin)
        del seconds[0]

    return app


def device(address: str, number: int, root: str, peaks: "Queue[float]") -> None:
    """One device's process; its peak memory goes to `peaks`."""
    options = AppDeviceOptions(
        targets=(address,), name=f"device-{number}", state=Path(root) / str(number), tls=None, say=lambda text: None
    )
    asyncio.run(join_app(client_app(), options))
    peaks.put(peak_mb())


def peak_mb() -> float:
    """This process's largest resident size so far, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEBIBYTE_KIB


def serve(devices: int, size: int, rounds: int, answer: "Queue[Any]", peaks: "Queue[float]") -> None:
    """The coordinator's process: serves one case and puts its row into `answer`."""
    seconds: list[float] = []
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as root:
        started: list[BaseProcess] = []

        def say(text: str) -> None:
            if text.startswith("listening"):
                for number in range(devices):
                    started.append(spawn.Process(target=device, args=(text.split()[2], number, root, peaks)))
                    started[-1].start()

        options = AppOptions(folder=Path(root) / "run", tls=None, say=say)
        idle = peak_mb()
        asyncio.run(serve_app(server_app(devices, size, rounds, seconds), options))
        for process in started:
            process.join(60)
    answer.put(
        {
            "devices": devices,
            "payload_bytes": size,
            "rounds": len(seconds),
            "round_s": sorted(seconds)[len(seconds) // 2],
            "mb_per_s": 2 * devices * size / sorted(seconds)[len(seconds) // 2] / MEGABYTE,
            "server_idle_mb": idle,
            "server_peak_mb": peak_mb(),
            "device_peak_mb": max(peaks.get(timeout=60) for _ in range(devices)),
        }
    )


def measure(devices: int, size: int) -> dict[str, Any]:
    """Return one case's row, measured in processes of its own."""
    spawn = multiprocessing.get_context("spawn")
    answer, peaks = spawn.Queue(), spawn.Queue()
    rounds = 20 if size < MEGABYTE else 3
    process = spawn.Process(target=serve, args=(devices, size, rounds, answer, peaks))
    process.start()
    row: dict[str, Any] = answer.get(timeout=600)
    process.join(60)
    return row


def main(arguments: list[str]) -> int:
    """Measure every case and print the table."""
    args = parser("flower_apps", "A Flower app over our coordinator: seconds per round, bytes, memory.").parse_args(
        arguments
    )
    emit("flower_apps", [measure(*case) for case in (QUICK if args.quick else CASES)], args)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
