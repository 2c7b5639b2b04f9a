"""A synthetic summary.json and the events of a small run."""

from typing import Any

Json = dict[str, Any]

PHASES = ("download", "prune", "train", "encode", "upload", "wait", "fold", "aggregate")


def metrics(accuracy: float, auc: float | None = 0.912) -> Json:
    """An evaluation on 500 rows."""
    return {"accuracy": accuracy, "auc": auc, "macro_f1": 0.789, "loss": 0.456, "rows": 500}


def result(device: str, number: int, *, status: str = "accepted", reward: float | None = 0.5) -> Json:
    """One device's part in a round, as far as the report reads it."""
    return {"round": number, "device": device, "status": status, "sparsity": 0.25, "rank": 16, "reward": reward}


def round_of(number: int, devices: tuple[str, ...] = ("agx-0", "tx2-0"), **changes: Any) -> Json:
    """One closed and evaluated round."""
    whole: Json = {
        "round": number,
        "void": False,
        "devices": len(devices),
        "accepted": len(devices),
        "duration_s": 12.34,
        "phase_s": dict(zip(PHASES, (0.11, 0.22, 9.33, 0.04, 0.55, 0.77, 0.08, 0.66), strict=True)),
        "close_s": 0.09,
        "bytes_up": 1_600_000,
        "bytes_down": 4_300_000,
        "results": [result(device, number) for device in devices],
        **metrics(0.8 + number / 1000),
    }
    return whole | changes


def class_of(**changes: Any) -> Json:
    """One exported class."""
    whole: Json = {
        "target_sparsity": 0.5,
        "realised_sparsity": 0.503,
        "heads_kept": 6,
        "heads_dense": 12,
        "channels_kept": 768,
        "channels_dense": 1536,
        "peak_training_memory_mb": 187.9,
        "parameters": 17_249_666,
        "dense_parameters": 22_566_146,
        "size_bytes": 69_019_672,
        "dense_size_bytes": 90_264_584,
        "latency_s": 0.0123,
        "dense_latency_s": 0.0246,
        "latency_ratio": 0.5,
        "test": metrics(0.777),
    }
    return whole | changes


def network_of(**changes: Any) -> Json:
    """Figures of one network class."""
    seconds = (10.0, 2.0, 60.0, 0.5, 20.0, 7.5, 0.5)
    whole: Json = {
        "devices": 2,
        "updates": 6,
        "timed_updates": 6,
        "clock_faults": 0,
        "bytes_up": 1_600_000,
        "bytes_down": 4_300_000,
        "time_s": 100.0,
        "phase_s": dict(zip(PHASES[:-1], seconds, strict=True)),
        "uplink_share": 0.2,
        "downlink_share": 0.1,
        "uplink_mbps": 12.34,
        "downlink_mbps": None,
    }
    return whole | changes


def summary_of(rounds: list[Json], classes: Json, **quality: Json | None) -> Json:
    """A whole summary; `quality` may hold untrained, final and reference."""
    return {
        "global": {"untrained": None, "final": None, "reference": None} | quality,
        "classes": classes,
        "totals": {"rounds": len(rounds), "steps": 48, "duration_s": 35.6, "bytes_up": 2.7e6, "bytes_down": 8.5e6},
        "rounds": rounds,
    }


def events() -> list[Json]:
    """Events of one round of two devices, one of which is refused."""
    arm = {"sparsity": 0.25, "rank": 8}
    return [
        {"t": 100.0, "event": "started", "next_round": 1, "pid": 7},
        {"t": 101.0, "event": "joined", "device": "agx-0", "role": "device", "device_class": "agx"},
        {"t": 101.5, "event": "joined", "device": "tx2-0", "role": "device", "device_class": "tx2"},
        {"t": 102.0, "event": "joined", "device": "evaluator", "role": "evaluator"},
        {"t": 103.0, "event": "evaluated", "task": "round 0", **metrics(0.5)},
        {"t": 110.0, "event": "choice", "round": 1, "device": "agx-0", "arm": arm},
        {"t": 110.0, "event": "choice", "round": 1, "device": "tx2-0", "arm": arm, "realised": arm | {"sparsity": 0.2}},
        {"t": 110.1, "event": "pushed", "device": "agx-0", "round": 1},
        {"t": 110.1, "event": "pushed", "device": "tx2-0", "round": 1},
        {"t": 115.0, "event": "accepted", "device": "agx-0", "round": 1},
        {"t": 116.0, "event": "rejected", "device": "tx2-0", "round": 1, "message": "holds NaN"},
        {"t": 119.9, "event": "reward", "round": 1, "device": "agx-0", "reward": 0.75},
        {"t": 120.0, "event": "round_closed", **round_of(1)},
        {"t": 121.0, "event": "evaluated", "task": "round 1", **metrics(0.801)},
    ]
