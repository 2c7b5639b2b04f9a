"""What is compared: a name, the strategy behind it, and what differs from the track's configuration. A line each.

A line whose strategy or keys this version does not know is skipped with its reason (`--list` shows it), so that a
line may be written before the strategy it names.
"""

from dataclasses import dataclass

THREE = (0, 1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One named configuration. `group` is "strategies" for the comparison, or the question a line helps to answer."""

    name: str
    strategy: str
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] = (0,)  # of the whole plan; others are run by --seed
    tuned_as: str = ""  # another variant whose learning rate it takes; empty: its own is tuned
    group: str = "strategies"


UNPACED = ("strategy.pace=off", "strategy.bandit=s-ucb")  # every device chooses alone
STEPS = "strategy.local_steps_choices=[5, 10, 20]"
MORE = "training.local_steps=20"
KEPT = "training.handout=kept"
EARLY = ("strategy.warmup_rounds=1", "strategy.recovery_rounds=18")  # cut once, in the second round
LONG = ("run.rounds=40", "strategy.warmup_rounds=1", "strategy.recovery_rounds=38")  # so is this, in twice the rounds
ONE_RANK = "strategy.ranks=[8]"  # where a strategy has one rank for all


def _spine(name: str, group: str, *overrides: str) -> Variant:
    """FedSpine with something changed, at its learning rate; `overrides` come last, a schedule of theirs stands."""
    return Variant(name=name, strategy="fedspine", overrides=(*EARLY, *overrides), tuned_as="fedspine", group=group)


_ALL = (
    Variant(name="fedspine", strategy="fedspine", overrides=EARLY, seeds=THREE),
    Variant(name="fedspine-steps", strategy="fedspine", overrides=(STEPS, *EARLY), seeds=THREE),
    Variant(
        name="fedspine-kept",
        strategy="fedspine",
        overrides=(STEPS, *EARLY, KEPT),
        seeds=THREE,
        tuned_as="fedspine-steps",
    ),
    # what the time it saves is worth: twice the rounds in no more time than the fastest rival's
    Variant(
        name="fedspine-long",
        strategy="fedspine",
        overrides=(STEPS, *LONG, KEPT),
        seeds=THREE,
        tuned_as="fedspine-steps",
    ),
    Variant(name="fedspine-gradual", strategy="fedspine", overrides=(STEPS,), tuned_as="fedspine-steps"),
    Variant(name="fedspine-unpaced", strategy="fedspine", overrides=(*UNPACED, *EARLY), tuned_as="fedspine"),
    Variant(name="fedit", strategy="fedavg-lora", overrides=(ONE_RANK,), seeds=THREE),
    Variant(name="fedit-r4", strategy="fedavg-lora", overrides=("strategy.ranks=[4]",), tuned_as="fedit"),
    Variant(name="fedit-r2", strategy="fedavg-lora", overrides=("strategy.ranks=[2]",), seeds=THREE, tuned_as="fedit"),
    Variant(
        name="fedit-r2-effective",
        strategy="fedavg-lora",
        overrides=("strategy.ranks=[2]", "strategy.weights=effective"),
        tuned_as="fedit",
    ),
    Variant(name="fedit-r2-h20", strategy="fedavg-lora", overrides=("strategy.ranks=[2]", MORE), tuned_as="fedit"),
    Variant(name="uniform", strategy="uniform", overrides=(ONE_RANK,), seeds=THREE),
    Variant(name="uniform-kept", strategy="uniform", overrides=(ONE_RANK, KEPT), tuned_as="uniform"),
    # its cut when the track cuts, then as many rounds again
    Variant(
        name="uniform-long",
        strategy="uniform",
        overrides=(ONE_RANK, "run.rounds=40", "strategy.recovery_rounds=29", KEPT),
        tuned_as="uniform",
    ),
    Variant(name="uniform-r2", strategy="uniform", overrides=("strategy.ranks=[2]",), tuned_as="uniform"),
    # cut at once, FedMP has nothing to choose: this is its line, too
    Variant(name="uniform-early", strategy="uniform", overrides=(ONE_RANK, *EARLY), tuned_as="uniform"),
    Variant(
        name="uniform-r2-early",
        strategy="uniform",
        overrides=("strategy.ranks=[2]", MORE, *EARLY),
        tuned_as="uniform",
    ),
    Variant(name="random-arms", strategy="random-arms", overrides=EARLY, tuned_as="fedspine"),
    Variant(name="oracle", strategy="oracle", overrides=EARLY, tuned_as="fedspine"),
    Variant(name="oracle-steps", strategy="oracle", overrides=(STEPS, *EARLY), seeds=THREE, tuned_as="fedspine-steps"),
    Variant(
        name="oracle-kept",
        strategy="oracle",
        overrides=(STEPS, *EARLY, KEPT),
        seeds=THREE,
        tuned_as="fedspine-steps",
    ),
    Variant(name="fedmp", strategy="fedmp"),
    Variant(name="ffa-lora", strategy="ffa-lora", overrides=(ONE_RANK,)),
    Variant(name="rolora", strategy="rolora", overrides=(ONE_RANK,)),
    Variant(name="hetlora", strategy="hetlora", seeds=THREE),
    Variant(name="flexlora", strategy="flexlora"),
    Variant(name="flora", strategy="flora"),
    Variant(name="fedex-lora", strategy="fedex-lora", overrides=(ONE_RANK,)),
    Variant(name="raflora", strategy="raflora"),
    Variant(name="legend", strategy="legend"),
    Variant(name="diloco", strategy="diloco", overrides=(ONE_RANK,)),
    # Classes with targets of their own: what each class's exported model is worth.
    _spine(
        "by-class",
        "classes",
        "fleet.class.agx.target_sparsity=0.3",
        "fleet.class.nx.target_sparsity=0.5",
        "fleet.class.tx2.target_sparsity=0.7",
    ),
    _spine("aggregator-delta-stack", "aggregator", "strategy.aggregator=delta-stack"),
    _spine("aggregator-raflora", "aggregator", "strategy.aggregator=raflora"),
    _spine("aggregator-flexlora", "aggregator", "strategy.aggregator=flexlora"),
    _spine("aggregator-fedex-lora", "aggregator", "strategy.aggregator=fedex-lora"),
    # B and A in turn, one nested A for all: the mean of factors is exact. At a rate of its own, for a factor is still.
    Variant(
        name="factors-alternating",
        strategy="fedspine",
        overrides=(*EARLY, "strategy.factors=alternating"),
        group="aggregator",
    ),
    _spine("aggregator-hetlora", "aggregator", "strategy.aggregator=hetlora"),
    _spine("importance-lora-taylor", "importance", "training.importance=lora-taylor"),
    _spine("importance-magnitude", "importance", "training.importance=magnitude"),
    _spine("importance-wanda-sp", "importance", "training.importance=wanda-sp"),
    _spine("importance-flap", "importance", "training.importance=flap"),
    _spine("importance-amp", "importance", "training.importance=amp"),
    _spine("importance-random", "importance", "training.importance=random"),
    _spine("order-class", "order", "strategy.order=class"),
    _spine("order-device", "order", "strategy.order=device"),
    _spine("warmup-3", "schedule", "strategy.warmup_rounds=3", "strategy.recovery_rounds=16"),
    _spine("warmup-6", "schedule", "strategy.warmup_rounds=6", "strategy.recovery_rounds=13"),
    _spine("recovery-2", "schedule", "strategy.recovery_rounds=2"),
    _spine("recovery-9", "schedule", "strategy.recovery_rounds=9"),
    _spine("distil-recovery-2", "recovery", "training.distill=0.5", "strategy.recovery_rounds=2"),
    _spine("bandit-thompson", "bandit", "strategy.bandit=thompson"),
    _spine("bandit-context", "bandit", "strategy.context=true"),
    _spine("bandit-s-ucb", "bandit", "strategy.bandit=s-ucb"),
    _spine("bandit-smooth-ucb", "bandit", "strategy.bandit=smooth-ucb"),
    _spine("bandit-random", "bandit", "strategy.bandit=random"),
    _spine("bandit-fixed", "bandit", "strategy.bandit=fixed"),
    _spine("pace-lagrange", "bandit", "strategy.pace=lagrange"),
    _spine("posterior-own", "bandit", "strategy.share_posterior=false"),
    _spine("float32-base", "precision", "model.dtype=float32"),
    _spine("distil", "recovery", "training.distill=0.5"),
    _spine("full-down", "bytes", "training.downlink=full"),
    _spine("weights-examples", "skew", "strategy.weights=examples"),
    _spine("iid", "skew", "data.partition=iid"),
    # Texts of other lengths on every device, labels about even: does one removal order suit them all?
    _spine("length", "domain", "data.partition=length", "data.alpha=0.3"),
    _spine("length-order-class", "domain", "data.partition=length", "data.alpha=0.3", "strategy.order=class"),
    _spine("length-order-device", "domain", "data.partition=length", "data.alpha=0.3", "strategy.order=device"),
)

VARIANTS = {variant.name: variant for variant in _ALL}
