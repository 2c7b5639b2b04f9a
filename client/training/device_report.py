"""What a device reports of one assignment."""

from fedcore.client.training.trainer import TrainingOutcome
from fedcore.core.contract.outcome import DeviceReport
from fedcore.protos.values import WireAssignment


def device_report(
    assignment: WireAssignment,
    outcome: TrainingOutcome,
    *,
    num_examples: int,
    download_s: float,
    encode_s: float,
    bytes_down: int,
) -> DeviceReport:
    """Return the report as it is before anything was sent: `bytes_up` is 0, `phase_s` has no upload."""
    result = outcome.result
    return DeviceReport(
        metrics=result.metrics,
        phase_s={
            "download": download_s,
            "prune": outcome.prune_s,
            "train": outcome.train_s,
            "encode": encode_s,
        },
        num_examples=num_examples,
        steps=assignment.local_steps,
        bytes_down=bytes_down,
        bytes_up=0,
    )
