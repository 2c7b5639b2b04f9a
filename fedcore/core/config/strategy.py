"""[strategy]: what is pruned, which ranks there are, which bandit chooses, and how updates are averaged."""

from dataclasses import dataclass
from typing import Annotated

from fedcore.core.config.keys import Unit, check_keys
from fedcore.core.config.list_rules import ascending, each, filled, four_weights
from fedcore.core.config.rules import above, at_least, offered, one_of, whole_number, within
from fedcore.core.errors import ConfigError
from fedcore.core.pruning.kinds import KINDS, WIDTH, by_benefit

# Names that other tables hold and check: `fedcore.strategies.table`, `fedcore.core.bandit.table`,
# `fedcore.core.aggregation.table` and `fedcore.core.server_optimizer.table`. Editors offer them; a test compares them.
STRATEGIES = (
    *("fedspine", "fedavg-lora", "uniform", "random-arms", "fedmp", "oracle", "diloco", "hetlora", "flexlora"),
    *("raflora", "ffa-lora", "rolora", "legend", "flora", "fedex-lora"),
)
BANDITS = ("s-ucb", "smooth-ucb", "thompson", "linucb", "fixed", "random")
AGGREGATORS = ("factor-mean", "layer-mean", "delta-stack", "flexlora", "hetlora", "raflora", "flora", "fedex-lora")
SERVER_OPTIMIZERS = ("sgd", "nesterov")


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyConfig:
    """[strategy]: what is pruned, which ranks there are, which bandit chooses, and how updates are averaged."""

    name: Annotated[
        str,
        offered(STRATEGIES),
        "strategy: `fedspine`, or one of the [other strategies](#strategies)",
    ] = "fedspine"
    target_sparsity: Annotated[
        float, within(0, 1, "[)"), "share of attention heads and FFN channels to be cut; a class may set its own"
    ] = 0.5
    remove: Annotated[
        tuple[str, ...],
        filled("kind"),
        each(one_of(*KINDS)),
        "what is cut. `heads` and `channels` make every layer narrower, in one fixed ratio where both are given and "
        "nothing else is; `layers` removes whole transformer blocks. Any other choice than those two is cut by "
        'measured harm for each parameter, and needs `order = "fleet"` and an aggregator of means',
    ] = WIDTH
    ranks: Annotated[
        tuple[int, ...],
        filled("rank"),
        each(whole_number(1)),
        ascending("ranks"),
        "LoRA ranks to choose from",
    ] = (4, 8, 16)
    bandit: Annotated[
        str,
        offered(BANDITS),
        "bandit that chooses arms: `linucb`, `s-ucb` (FedSpine's own), `smooth-ucb`, `thompson`, `random`, or `fixed` "
        "(the target sparsity as far as the schedule lets it, the largest rank, the most steps)",
    ] = "linucb"
    aggregator: Annotated[
        str,
        offered(AGGREGATORS),
        "how updates become one: `factor-mean`, or one of the [other aggregators](#aggregators); some strategies bring "
        "their own",
    ] = "factor-mean"
    server_lr: Annotated[
        float, above(0), "step along the aggregated increment; under `diloco` the default means 0.7"
    ] = 1.0
    server_optimizer: Annotated[
        str,
        offered(SERVER_OPTIMIZERS),
        "`sgd`: that step alone; `nesterov`: with momentum, which the coordinator keeps (for `factor-mean`; `diloco` "
        "takes it)",
    ] = "sgd"
    server_momentum: Annotated[float, within(0, 1, "[)"), "momentum under `nesterov`"] = 0.9
    factors: Annotated[
        str,
        one_of("both", "b", "alternating"),
        "what devices train of the adapter, beside the head. `both`: A and B; `b`: B alone, A stays as it was drawn; "
        "`alternating`: B and A take turns, so that the mean of factors is exact (as in `ffa-lora` and `rolora`, which "
        "have their own); for `factor-mean`",
    ] = "both"
    cohort: Annotated[int, whole_number(0), Unit("devices"), "devices per round, drawn at random; 0 is all"] = 0
    weights: Annotated[
        str | None,
        one_of("examples", "effective"),
        "how much a device counts in the mean: by its `examples`, or by how many rows they are worth (`effective`: "
        "Kish's sample size of the rows in balanced batches, moved so that devices which lack labels do not outvote "
        "the others); left out, `effective` for `fedspine`, `random-arms` and `oracle`, `examples` for the others",
    ] = None
    order: Annotated[
        str,
        one_of("fleet", "class", "device"),
        "removal orders: one for the `fleet`, one per `class`, or one per `device` (personal keep-sets; a class is "
        "then exported by the mean of its devices' scores)",
    ] = "fleet"
    warmup_rounds: Annotated[
        int | None,
        whole_number(0),
        Unit("rounds"),
        "rounds before the first cut; at least 1 where anything is pruned; `auto`: an eighth of the rounds, 1 to 3",
    ] = None
    recovery_rounds: Annotated[
        int | None, whole_number(0), Unit("rounds"), "rounds after the last cut; `auto`: half of the rounds"
    ] = None
    reward_weights: Annotated[
        tuple[float, ...],
        four_weights(),
        each(at_least(0)),
        "weights of loss drop, progress to the target, adapter importance and lateness in the reward",
    ] = (0.5, 0.2, 0.1, 0.2)
    share_posterior: Annotated[bool, "whether devices of a class share what the bandit learned"] = True
    reward_times: Annotated[
        str,
        one_of("measured", "model"),
        "times that rewards are made of. `measured` on the devices; `model`: from the cost model, so that a run's "
        "choices repeat",
    ] = "measured"
    discount: Annotated[float, within(0, 1, "(]"), "factor on a reward's weight with every later observation"] = 0.98
    exploration: Annotated[
        float | None,
        at_least(0),
        "width of the confidence bound; left out, 0.3 for `linucb` and 0.1 for the others",
    ] = None
    min_width: Annotated[float, within(0.001, 1.0), "share of an axis below which the bandit's tree is not split"] = 0.1
    local_steps_choices: Annotated[
        tuple[int, ...],
        each(whole_number(1)),
        ascending("numbers of steps"),
        "local steps to choose from, as a part of the arm; empty: every device takes `training.local_steps`",
    ] = ()
    context: Annotated[
        bool, "whether the bandit is told each device's learned speeds, which `linucb` looks at; needs a `pace`"
    ] = False
    pace: Annotated[
        str,
        one_of("off", "filter", "lagrange"),
        "common time budget of each round, from speeds learned per device. `filter` offers only arms that keep it, "
        "`lagrange` makes lateness cost reward by a weight that moves, `off` sets none",
    ] = "filter"
    spare_time: Annotated[
        str,
        one_of("train", "wait"),
        "what a device does that would end before the round's time budget. `train`: it takes more steps, up to twice "
        "its own, where it has the rows for them; `wait`: its own steps, and no more. Without a `pace`, or with "
        "`local_steps_choices`, it has no effect",
    ] = "train"

    def __post_init__(self) -> None:
        check_keys(self, "strategy.")
        if self.context and self.pace == "off":
            raise ConfigError("strategy.context needs learned speeds: set strategy.pace to filter or lagrange")
        if by_benefit(self.remove) and self.order != "fleet":
            raise ConfigError(
                f"strategy.remove = {list(self.remove)} follows one removal order of the whole fleet, and "
                f'strategy.order is {self.order!r}: set it to "fleet", or remove to ["heads", "channels"]'
            )
