"""The two tracks: what is trained, and what was fixed before anything was measured."""

from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """A model, a task and the rules they are judged by."""

    name: str
    rates: tuple[float, ...]  # learning rates that every strategy is tuned over
    targets: tuple[float, ...]  # accuracies whose virtual time is told
    rows_per_round: int  # held-back rows measured after every round
    cuts: tuple[float, ...]  # sparsities at which a pruned run's model is measured at the end, beside its target

    def text(self) -> str:
        """The track's configuration with the fleet's tables."""
        return (
            (HERE / f"{self.name}.toml").read_text(encoding="utf-8")
            + "\n"
            + (HERE / "fleet.toml").read_text(encoding="utf-8")
        )


TRACKS = {
    track.name: track
    for track in (
        Track(
            name="fast",
            rates=(7e-4, 2e-3, 5e-3),
            targets=(0.70, 0.75, 0.78, 0.80, 0.82),
            rows_per_round=400,
            cuts=(0.3, 0.5, 0.7),
        ),
        # A pass over its held-back rows takes minutes on two cores, so there are fewer of them.
        Track(
            name="heavy",
            rates=(1e-3, 3e-3, 1e-2),
            targets=(0.80, 0.85, 0.90, 0.93),
            rows_per_round=200,
            cuts=(0.5,),
        ),
    )
}
