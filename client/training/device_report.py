"""What a device says it measured."""

from fedcore.client.training.trainer import TrainingOutcome
from fedcore.core.contract.outcome import DeviceReport
from fedcore.protos.values import WireAssignment


def device_report(
    assignment: WireAssignment,
    trained: TrainingOutcome,
    *,
    num_examples: int,
    download_s: float,
    encode_s: float,
    bytes_down: int,
) -> DeviceReport:
    """Return the report on one assignment, before anything of it was sent."""
    return DeviceReport(
        metrics=trained.result.metrics,
        phase_s={
            "download": download_s,
            "prune": trained.prune_s,
            "train": trained.train_s,
            "encode": encode_s,
        },
        num_examples=num_examples,
        steps=assignment.local_steps,
        bytes_down=bytes_down,
        bytes_up=0,
    )
