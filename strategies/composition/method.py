"""A strategy as its file states it: how it reads a configuration, and the parts that no configuration names."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fedcore.core.config.tables import Config
from fedcore.core.contract.outcome import GroupScores
from fedcore.core.contract.protocols import Strategy
from fedcore.core.model.geometry import Geometry
from fedcore.strategies.composition.compose import compose
from fedcore.strategies.composition.download import with_handout
from fedcore.strategies.policy.cost import RoundCost
from fedcore.strategies.policy.part_choice import PartChoice
from fedcore.strategies.policy.policy import Policy

HeadShapes = Sequence[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """One strategy.

    `settings` returns the configuration as the strategy reads it: what it ignores is set to what it does.
    `class_ranks` says which of `strategy.ranks` each class may have, all where it is None; `part` what of the adapter
    devices train, of a model of some geometry, as `strategy.factors` says where it is None; `adapt` has the last word
    on the policy, and may put another strategy around it or in its place. `cites` names the source, as text.
    """

    name: str
    settings: Callable[[Config], Config]
    class_ranks: Callable[[Config, RoundCost], Mapping[str, tuple[int, ...]]] | None = None
    part: Callable[[Geometry], PartChoice] | None = None
    adapt: Callable[[Policy], Strategy] = lambda policy: policy
    cites: str = ""

    def resolved(self, config: Config) -> Config:
        """Return the configuration as the strategy reads it, `training.handout` settled."""
        return with_handout(self.settings(config))

    def policy(
        self, config: Config, geometry: Geometry, head_shapes: HeadShapes, prior: GroupScores | None = None
    ) -> Strategy:
        """Return the strategy of a run; raises as `resolved` and `fedcore.strategies.composition.compose.compose`."""
        made = compose(
            self.name,
            self.resolved(config),
            geometry,
            head_shapes,
            prior,
            class_ranks=self.class_ranks,
            part=None if self.part is None else self.part(geometry),
        )
        return self.adapt(made)
