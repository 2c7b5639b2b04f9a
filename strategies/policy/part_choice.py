"""The part of the adapter that each device of a cohort trains, for methods that freeze a part of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fedcore.core.config.tables import Config
from fedcore.core.model.trained_part import EVERYTHING, Factors, TrainedPart
from fedcore.strategies.policy.arm_choice import Choice
from fedcore.strategies.policy.cost import RoundCost
from fedcore.strategies.policy.feasible import Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortCosts:
    """A round's choices, and the time and memory that devices would need.

    `counted` is the number of earlier rounds that moved the adapter, without void rounds.
    """

    counted: int
    choices: Sequence[Choice]
    cost: RoundCost
    memory: Memory

    def seconds(self, choice: Choice, part: TrainedPart) -> float:
        """Return the modelled time of the device's round."""
        return self.cost.seconds(choice.profile, choice.counts, choice.arm.rank, choice.arm.steps, part=part)

    def fits(self, choice: Choice, part: TrainedPart) -> bool:
        """Whether the device's memory suffices for a step, by the estimate and its class's measurements."""
        return self.memory.fits(choice.profile, choice.counts, choice.arm.rank, part)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartChoice:
    """A rule: `choose` gives every choice of a cohort its part. A device may join if it has the memory for `least`."""

    least: TrainedPart
    choose: Callable[[CohortCosts], Sequence[TrainedPart]]


def same(part: TrainedPart) -> PartChoice:
    """Return the rule that gives every device the same part in every round."""
    return PartChoice(least=part, choose=lambda cohort: [part] * len(cohort.choices))


def _in_turn(cohort: CohortCosts) -> list[TrainedPart]:
    return [A_ALONE if cohort.counted % 2 else B_ALONE] * len(cohort.choices)


WHOLE = same(EVERYTHING)
B_ALONE, A_ALONE = TrainedPart(factors=Factors.B), TrainedPart(factors=Factors.A)

# B begins at zero and has to be first: A has no gradient until a round has moved B, so void rounds are no turns. The
# gradient of A needs the layers' inputs and that of B does not, so memory that suffices for A suffices for B.
ALTERNATING = PartChoice(least=A_ALONE, choose=_in_turn)

PARTS: Mapping[str, PartChoice] = {"both": WHOLE, "b": same(B_ALONE), "alternating": ALTERNATING}  # strategy.factors


def partly_new(config: Config) -> str:
    """Return the `training.downlink` for adapters with a frozen part: differences, unless another is configured."""
    return "delta" if config.training.downlink == "full" else config.training.downlink
