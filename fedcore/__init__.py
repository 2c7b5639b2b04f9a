"""Federated fine-tuning of language models on real devices: pruning and LoRA rank for every device, by a bandit.

    import fedcore

    run = fedcore.simulate("examples/simulation.toml", strategy="hetlora", rounds=3)
    run.summary["classes"]["nx"]["test"]["accuracy"]

The public names are those of `__all__`, described in docs/reference/api.md. Each is loaded when it is first used:
importing fedcore itself loads no library.
"""

TYPE_CHECKING = False  # true to type checkers; importing typing takes longer than all the rest here

if TYPE_CHECKING:
    from fedcore.api.configuration import load_config
    from fedcore.api.fleet import fleet
    from fedcore.api.registration import aggregator, bandit, strategy
    from fedcore.api.run import Run
    from fedcore.api.simulate import simulate
    from fedcore.core.config.tables import Config, StrategyConfig
    from fedcore.core.contract.assignment import Arm, Assignment
    from fedcore.core.contract.outcome import Outcome
    from fedcore.core.contract.protocols import Aggregator, ArmSpace, Bandit, Strategy
    from fedcore.core.errors import ConfigError, DataError, FedcoreError, ModelError, RunError
    from fedcore.core.model.geometry import Geometry
    from fedcore.core.model.keep_set import KeepSet
    from fedcore.strategies.composition.method import Method
    from fedcore.strategies.composition.unpruned import unpruned
    from fedcore.strategies.policy.policy import Policy

    __version__: str

__all__ = [
    "Aggregator",
    "Arm",
    "ArmSpace",
    "Assignment",
    "Bandit",
    "Config",
    "ConfigError",
    "DataError",
    "FedcoreError",
    "Geometry",
    "KeepSet",
    "Method",
    "ModelError",
    "Outcome",
    "Policy",
    "Run",
    "RunError",
    "Strategy",
    "StrategyConfig",
    "aggregator",
    "bandit",
    "fleet",
    "load_config",
    "simulate",
    "strategy",
    "unpruned",
]

_MODULES = {
    "Aggregator": "fedcore.core.contract.protocols",
    "Arm": "fedcore.core.contract.assignment",
    "ArmSpace": "fedcore.core.contract.protocols",
    "Assignment": "fedcore.core.contract.assignment",
    "Bandit": "fedcore.core.contract.protocols",
    "Config": "fedcore.core.config.tables",
    "ConfigError": "fedcore.core.errors",
    "DataError": "fedcore.core.errors",
    "FedcoreError": "fedcore.core.errors",
    "Geometry": "fedcore.core.model.geometry",
    "KeepSet": "fedcore.core.model.keep_set",
    "Method": "fedcore.strategies.composition.method",
    "ModelError": "fedcore.core.errors",
    "Outcome": "fedcore.core.contract.outcome",
    "Policy": "fedcore.strategies.policy.policy",
    "Run": "fedcore.api.run",
    "RunError": "fedcore.core.errors",
    "Strategy": "fedcore.core.contract.protocols",
    "StrategyConfig": "fedcore.core.config.tables",
    "aggregator": "fedcore.api.registration",
    "bandit": "fedcore.api.registration",
    "fleet": "fedcore.api.fleet",
    "load_config": "fedcore.api.configuration",
    "simulate": "fedcore.api.simulate",
    "strategy": "fedcore.api.registration",
    "unpruned": "fedcore.strategies.composition.unpruned",
}

if not TYPE_CHECKING:  # a type checker that saw __getattr__ would accept every name

    def __getattr__(name: str) -> object:
        if name == "__version__":
            from importlib.metadata import version

            return version("fedcore")
        if name not in _MODULES:
            raise AttributeError(f"module 'fedcore' has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(_MODULES[name]), name)
        globals()[name] = value  # the next use finds it at once
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_MODULES, "__version__"})
