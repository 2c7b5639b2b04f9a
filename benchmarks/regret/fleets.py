"""The fleets on which bandits are compared: their devices, the speed of each, and when it changes."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from fedcore.core.config.tables import ClassConfig, Config, ModelConfig, RunConfig, StrategyConfig, TrainingConfig
from fedcore.core.contract.profile import DeviceProfile, SelfMeasurement
from fedcore.core.model.geometry import Geometry
from fedcore.core.seeds import uniform
from fedcore.simulation.fleet.self_measurement import draw_self_measurement
from fedcore.strategies.policy.cost import REFERENCE_FLOPS_PER_S

ROUNDS = 30
COHORT = 12
GEOMETRY = Geometry(  # MiniLM, six layers
    family="bert",
    model_type="bert",
    layers=6,
    hidden=384,
    query_heads=12,
    kv_heads=12,
    head_dim=32,
    ffn=1536,
    vocab=30522,
    positions=512,
    token_types=2,
    qkv_bias=True,
    o_bias=True,
    ffn_bias=True,
)
HEAD = (("head.weight", (2, 384)), ("head.bias", (2,)))
RANKS = (4, 8, 16)
STEPS = (5, 10, 20, 40)
LINK_SPREAD = 0.3  # of a link's speed from round to round, lognormal
GFLOPS = REFERENCE_FLOPS_PER_S / 1e9  # of a device without slowdown


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A class: slowdowns of its power modes, which devices take in turn, and WiFi speeds, log-uniform."""

    name: str
    count: int
    slowdowns: tuple[float, ...]
    memory_mb: float = 0.0
    slowest_mbps: float = 1.0
    fastest_mbps: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A fleet; from `drift_round` on (0: never) every device runs in its class's next power mode."""

    name: str
    kinds: tuple[Kind, ...]
    target: float = 0.5
    drift_round: int = 0

    def config(self, **strategy: object) -> Config:
        """Return the run's configuration with these changes to [strategy]."""
        base = StrategyConfig(
            target_sparsity=self.target,
            ranks=RANKS,
            cohort=COHORT,
            warmup_rounds=3,
            recovery_rounds=5,
            local_steps_choices=STEPS,
        )
        return Config(
            run=RunConfig(rounds=ROUNDS),
            model=ModelConfig(max_length=64),
            strategy=replace(base, **strategy),  # type: ignore[arg-type]
            training=TrainingConfig(local_steps=10, batch_size=16),
            classes=tuple(ClassConfig(name=kind.name, count=kind.count) for kind in self.kinds),
        )

    def roster(self, seed: int, round_index: int) -> tuple[DeviceProfile, ...]:
        """Return the devices as they are in a round, by name."""
        drifted = int(0 < self.drift_round <= round_index)
        devices = [
            DeviceProfile(
                name=f"{kind.name}-{number}",
                device_class=kind.name,
                num_examples=80 + int(240 * uniform(seed, "rows", kind.name, number)),
                memory_mb=kind.memory_mb,
                slowdown=kind.slowdowns[(number + drifted) % len(kind.slowdowns)],
                uplink_mbps=_link(kind, seed, number),
                downlink_mbps=_link(kind, seed, number),
                trial=_trial(kind, seed, number),
            )
            for kind in self.kinds
            for number in range(kind.count)
        ]
        return tuple(sorted(devices, key=lambda device: device.name))


def _link(kind: Kind, seed: int, number: int) -> float:
    share = uniform(seed, "place", kind.name, number)
    return math.exp(math.log(kind.slowest_mbps) + share * math.log(kind.fastest_mbps / kind.slowest_mbps))


def _trial(kind: Kind, seed: int, number: int) -> SelfMeasurement:
    """Return what a device measured of itself before the first round, on a link as varying as any round's."""
    link_mbps = _link(kind, seed, number)
    return draw_self_measurement(
        seed,
        kind.name,
        number,
        gflops=GFLOPS / kind.slowdowns[number % len(kind.slowdowns)],
        downlink_mbps=link_mbps,
        uplink_mbps=link_mbps,
        link_sigma=LINK_SPREAD,
    )


_TX2 = Kind(name="tx2", count=30, slowdowns=(4.0, 6.0, 9.0))
_NX = Kind(name="nx", count=40, slowdowns=(2.0, 3.0, 4.5))
_AGX = Kind(name="agx", count=10, slowdowns=(1.0, 1.5, 2.5))

FLEETS: Mapping[str, Fleet] = {
    fleet.name: fleet
    for fleet in (
        Fleet(name="jetsons", kinds=(_TX2, _NX, _AGX)),
        Fleet(
            name="small-memory",
            kinds=(
                replace(_TX2, name="nano", count=40, slowdowns=(6.0, 10.0), memory_mb=200.0, fastest_mbps=10.0),
                replace(_NX, name="phone", count=20, slowdowns=(2.0, 5.0), memory_mb=260.0, slowest_mbps=0.5),
                replace(_AGX, name="desk", count=20, slowdowns=(1.0,), slowest_mbps=10.0, fastest_mbps=100.0),
            ),
            target=0.6,
        ),
        Fleet(name="drifting", kinds=(_TX2, _NX, _AGX), drift_round=ROUNDS // 2 + 1),
    )
}


# Exploration was chosen on this fleet. Which bandits to keep, the kernel's bandwidth and how fast speeds are forgotten
# were chosen on the reported fleets too, on seeds from 100 on: what is reported are unseen seeds, not unseen fleets.
TUNING = Fleet(
    name="tuning",
    kinds=(
        Kind(name="slow", count=20, slowdowns=(5.0, 8.0), slowest_mbps=2.0),
        Kind(name="middle", count=20, slowdowns=(2.0, 4.0), memory_mb=230.0),
        Kind(name="fast", count=40, slowdowns=(1.0, 1.3), fastest_mbps=60.0),
    ),
    target=0.4,
    drift_round=11,
)
