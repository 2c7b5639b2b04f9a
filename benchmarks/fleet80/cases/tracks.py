"""The tracks: what is trained, and what was fixed before anything was measured."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.fleet80.cases.goals import Goal, accuracy

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """A model, a task and the rules they are judged by."""

    name: str
    rates: tuple[float, ...]  # learning rates that every strategy is tuned over
    goals: tuple[Goal, ...]  # the first is what differences and pictures are of
    rows_per_round: int  # held-back rows measured after every round
    cuts: tuple[float, ...]  # sparsities at which a pruned run's model is measured at the end, beside its target
    figures: tuple[str, ...] = ("accuracy", "auc", "loss")  # that results hold of every measured model
    variants: tuple[str, ...] = ()  # those of the plan; empty: all
    schedule: tuple[str, ...] = ()  # settings that stand above those of a variant

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
            goals=(accuracy(0.70, 0.75, 0.78, 0.80, 0.82),),
            rows_per_round=400,
            cuts=(0.3, 0.5, 0.7),
        ),
        # A pass over its held-back rows takes minutes on two cores, so there are fewer of them.
        Track(
            name="heavy",
            rates=(1e-3, 3e-3, 1e-2),
            goals=(accuracy(0.80, 0.85, 0.90, 0.93),),
            rows_per_round=200,
            cuts=(0.5,),
        ),
        # A run has 240 device steps. Targets: central LoRA without pruning ends at perplexity 4.6 and exact match 8 %
        # after 208 steps of as many rows; a model cut to half at once, at 85 after 49.
        Track(
            name="write",
            rates=(5e-4, 1e-3, 2e-3),
            goals=(
                Goal(
                    figure="perplexity",
                    title="perplexity",
                    targets=(100.0, 50.0, 20.0, 10.0, 6.0),
                    share=False,
                    falls=True,
                ),
                Goal(figure="exact_match", title="exact match", targets=(0.02, 0.05, 0.08)),
            ),
            rows_per_round=48,
            cuts=(0.5,),
            figures=("perplexity", "exact_match", "token_accuracy", "chrf", "loss"),
            variants=("fedspine", "fedit", "hetlora", "ffa-lora", "flora", "uniform", "random-arms"),
            # A model that writes takes a cut far worse than a classifier does: by small steps, then two rounds to mend.
            schedule=("strategy.warmup_rounds=2", "strategy.recovery_rounds=2"),
        ),
    )
}
