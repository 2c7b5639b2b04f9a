from pathlib import Path

import numpy as np
import pytest

from fedcore.core.errors import DataError
from fedcore.simulation.workload.loss_curve import RANK_POWER, LossCurve, effective, fit_curve, read_curve

TRUE = LossCurve(start=0.9, floor=0.3, scale=50.0, cost=0.4, gain=0.2, noise=0.0)


def rows_of(curve: LossCurve, *, steps: int = 10, rounds: int = 12, noise: float = 0.0) -> list[dict[str, float]]:
    rng, rows, progress = np.random.default_rng(0), [], 0.0
    for number in range(1, rounds + 1):
        for rank, sparsity in ((2, 0.5), (4, 0.25), (8, 0.0)):
            share = rank / 8
            before = curve.level(progress, sparsity)
            after = before - curve.drop(progress, sparsity, share) - noise * rng.standard_normal()
            rows.append(
                {"round": number, "sparsity": sparsity, "rank": rank, "loss_before": before, "loss_after": after}
            )
        progress += float(np.mean([effective(steps, rank / 8) for rank in (2, 4, 8)]))
    return rows


def test_a_fit_recovers_the_curve_it_was_made_of() -> None:
    fitted = fit_curve(rows_of(TRUE), steps=10)
    assert fitted.floor == pytest.approx(TRUE.floor, abs=0.01)
    assert fitted.start == pytest.approx(TRUE.start, abs=0.01)
    assert fitted.scale == pytest.approx(TRUE.scale, rel=0.05)
    assert fitted.cost == pytest.approx(TRUE.cost, abs=0.01)
    assert fitted.gain == pytest.approx(TRUE.gain, abs=0.02)
    assert fitted.noise < 0.01


def test_a_fit_recovers_the_noise() -> None:
    assert fit_curve(rows_of(TRUE, noise=0.05), steps=10).noise == pytest.approx(0.05, rel=0.3)


def test_losses_fall_with_progress_and_rise_with_sparsity() -> None:
    assert TRUE.level(0, 0) > TRUE.level(10, 0) > TRUE.level(100, 0) > TRUE.floor
    assert TRUE.level(10, 0.5) > TRUE.level(10, 0.2)
    assert TRUE.drop(0, 0, 1.0) > TRUE.drop(50, 0, 1.0)
    assert TRUE.drop(0, 0, 1.0) > TRUE.drop(0, 0, 0.25)


def test_efforts_compose_as_steps_do():
    """What one effort leaves and another then lowers is what both lower at once: 1 - drop multiplies."""
    reach = TRUE.level(0, 0) - TRUE.floor
    left = [1 - TRUE.drop(0, 0, 1.0, effort=effort) / reach for effort in (1.0, 2.0, 3.0)]
    assert left[0] * left[1] == pytest.approx(left[2])
    assert TRUE.drop(0, 0, 1.0, effort=1.0) == TRUE.drop(0, 0, 1.0)
    assert effective(10, 1.0) == 10
    assert effective(10, 1 / 16) == pytest.approx(10 * 2 ** (-4 * RANK_POWER))


def test_too_few_rounds_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 3 rounds"):
        fit_curve(rows_of(TRUE, rounds=2), steps=10)
    with pytest.raises(DataError, match="give the folder of a finished run"):
        read_curve(tmp_path, 10)
    (tmp_path / "rounds.csv").write_text("round,device\n1,a\n")
    with pytest.raises(DataError, match="give the folder of a finished run"):
        read_curve(tmp_path, 10)


def test_a_run_folder_is_fitted_by_its_counted_rows(tmp_path: Path) -> None:
    lines = ["round,status,sparsity,rank,loss_before,loss_after"]
    lines += [
        f"{row['round']},accepted,{row['sparsity']},{row['rank']},{row['loss_before']},{row['loss_after']}"
        for row in rows_of(TRUE)
    ]
    lines.append("3,lost,0.5,2,,")
    (tmp_path / "rounds.csv").write_text("\n".join(lines))
    assert read_curve(tmp_path, 10) == fit_curve(rows_of(TRUE), 10)
