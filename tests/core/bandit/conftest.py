import pytest

from fedcore.core.contract.assignment import Arm
from fedcore.core.contract.outcome import DeviceReport, Outcome, Status, TrainingMetrics


@pytest.fixture(scope="session")
def outcome():
    def make(device="a", *, drop=0.1, importance=1.0, time_s=1.0, sparsity=0.25, status=Status.ACCEPTED, report=True):
        measured = DeviceReport(
            metrics=TrainingMetrics(
                loss_before=1.0,
                loss_after=1.0 - drop,
                train_loss=1.0,
                peak_memory_mb=100.0,
                adapter_importance=importance,
            ),
            phase_s={},
            num_examples=10,
            steps=5,
            bytes_down=0,
            bytes_up=0,
        )
        return Outcome(
            device=device,
            device_class="nx",
            round=1,
            arm=Arm(sparsity=sparsity, rank=4),
            status=status,
            time_s=time_s,
            report=measured if report else None,
        )

    return make
