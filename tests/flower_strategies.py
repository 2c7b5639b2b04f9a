"""Every strategy of Flower's, with arguments under which a linear model on four nodes learns something."""

from collections.abc import Callable, Mapping

from flwr.clientapp.mod import LocalDpMod, adaptiveclipping_mod, fixedclipping_mod, message_size_mod
from flwr.clientapp.typing import Mod
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy

NODES = 5
ALL = {
    "min_available_nodes": NODES,
    "min_train_nodes": NODES,
    "min_evaluate_nodes": NODES,
}  # wait for everybody, so that every run is the same
PLAIN: Mapping[str, Callable[[], Strategy]] = {
    "FedAvg": lambda: flower.FedAvg(**ALL),
    "FedAvgM": lambda: flower.FedAvgM(**ALL, server_momentum=0.5),
    "FedAdam": lambda: flower.FedAdam(**ALL, eta=0.1, tau=1e-3),
    "FedYogi": lambda: flower.FedYogi(**ALL, eta=0.1, tau=1e-3),
    "FedAdagrad": lambda: flower.FedAdagrad(**ALL, eta=0.1, tau=1e-3),
    "FedMedian": lambda: flower.FedMedian(**ALL),
    "FedTrimmedAvg": lambda: flower.FedTrimmedAvg(**ALL, beta=0.25),
    "FedProx": lambda: flower.FedProx(**ALL, proximal_mu=0.1),
    "Krum": lambda: flower.Krum(**ALL, num_malicious_nodes=1),
    "MultiKrum": lambda: flower.MultiKrum(**ALL, num_malicious_nodes=1, num_nodes_to_select=2),
    "Bulyan": lambda: flower.Bulyan(**ALL, num_malicious_nodes=0),
    "QFedAvg": lambda: flower.QFedAvg(**ALL, client_learning_rate=0.05),
}
MODS: Mapping[str, tuple[Callable[[], Strategy], list[Mod]]] = {
    "DP, server, fixed clipping": (
        lambda: flower.DifferentialPrivacyServerSideFixedClipping(flower.FedAvg(**ALL), 0.05, 2.0, NODES),
        [],
    ),
    "DP, server, adaptive clipping": (
        lambda: flower.DifferentialPrivacyServerSideAdaptiveClipping(
            flower.FedAvg(**ALL), 0.05, NODES, clipped_count_stddev=0.1
        ),
        [],
    ),
    "DP, client, fixed clipping": (
        lambda: flower.DifferentialPrivacyClientSideFixedClipping(flower.FedAvg(**ALL), 0.05, 2.0, NODES),
        [fixedclipping_mod],
    ),
    "DP, client, adaptive clipping": (
        lambda: flower.DifferentialPrivacyClientSideAdaptiveClipping(
            flower.FedAvg(**ALL), 0.05, NODES, clipped_count_stddev=0.1
        ),
        [adaptiveclipping_mod],
    ),
    "LocalDpMod": (lambda: flower.FedAvg(**ALL), [LocalDpMod(1.0, 0.01, 10.0, 1e-5)]),
    "message_size_mod": (lambda: flower.FedAvg(**ALL), [message_size_mod]),
}
STRATEGIES: Mapping[str, tuple[Callable[[], Strategy], list[Mod]]] = {
    **{name: (make, []) for name, make in PLAIN.items()},
    **MODS,
}
