"""Analytic cost model: what a training step of a pruned model with adapters costs in memory, arithmetic, seconds.

Frozen-base LoRA training as `fedcore.nn` does it: dropout off, attention by a fused kernel that saves query, key,
value and output but no score matrix, autograd keeping the input of a linear layer only where an adapter needs it.
Against the measured peak of live tensors the memory estimate was off by at most 2 % in float32 (5 % too high without
a padding mask) and 6 % in bfloat16 on small BERT- and Llama-type models; strategies correct it by what
devices measure.
"""

from dataclasses import dataclass

from fedcore.core.errors import ConfigError
from fedcore.core.model.geometry import Geometry
from fedcore.core.model.trained_part import EVERYTHING, Factors, TrainedPart

MIB = 2**20
FLOAT_BYTES = 4  # factors, head, their gradients and moments are float32 whatever the base
ADAM_COPIES = 3  # gradient, first and second moment of what trains
BACKWARD_TEMPORARIES = 2  # gradients of wide intermediates alive at once while one layer's backward runs


def training_memory_mb(
    geometry: Geometry,
    *,
    heads: int,
    channels: int,
    rank: int,
    targets: tuple[str, ...],
    batch_size: int,
    max_length: int,
    dtype_bytes: int,
    num_labels: int,
    trains: TrainedPart = EVERYTHING,
) -> float:
    """Return the estimated peak of live tensor memory in one training step, MiB.

    `heads` units and `channels` are kept in every layer, adapters of `rank` sit on `targets`, a batch has
    `batch_size` x `max_length` tokens, a frozen weight has `dtype_bytes` (4 float32, 2 bfloat16). Layers that do not
    train keep no activations; only what `trains` has gradients and moments.
    """
    work = _Work(
        geometry=geometry,
        heads=heads,
        channels=channels,
        rank=rank,
        targets=targets,
        tokens=batch_size * max_length,
        dtype_bytes=dtype_bytes,
        trains=trains,
    )
    head = num_labels * (geometry.hidden + 1)
    terms = (
        base_parameters(geometry, heads=heads, channels=channels) * dtype_bytes,
        (work.adapter_values() + work.trained_values() * ADAM_COPIES) * FLOAT_BYTES,
        head * FLOAT_BYTES * (1 + ADAM_COPIES),
        work.tokens * geometry.hidden * dtype_bytes,  # embedding output, the first residual stream
        work.trained_layers * work.layer_activations(),
        work.backward_temporaries(),
    )
    return sum(terms) / MIB


def base_parameters(geometry: Geometry, *, heads: int, channels: int) -> int:
    """Return the number of frozen parameters: embeddings, layers with so many groups kept, norms; no task head."""
    hidden, bert = geometry.hidden, geometry.family == "bert"
    embeddings = (geometry.vocab + geometry.positions + geometry.token_types) * hidden
    norm = 2 * hidden if bert else hidden  # weight and bias, or weight alone
    kv = 2 * geometry.shape("k")[0] * (hidden + int(geometry.qkv_bias)) if geometry.kv_per_unit == 0 else 0
    uncut = hidden * (int(geometry.o_bias) + int(geometry.ffn_bias))  # biases of o and down stay whole
    per_layer = 2 * norm + kv + uncut
    return embeddings + norm + geometry.layers * per_layer + geometry.kept_params(heads=heads, channels=channels)


def trained_layers(geometry: Geometry, trains: TrainedPart) -> int:
    """Return the number of layers whose adapters train."""
    return max(0, geometry.layers - trains.first_layer)


def trained_values(
    geometry: Geometry,
    *,
    heads: int,
    channels: int,
    rank: int,
    targets: tuple[str, ...],
    trains: TrainedPart = EVERYTHING,
) -> int:
    """Return the number of values of the LoRA factors that train, which an update holds beside the head's."""
    axes = {Factors.A: (1,), Factors.B: (0,), Factors.BOTH: (0, 1)}[trains.factors]  # of (out, in)
    shapes = [geometry.shape(module, heads=heads, channels=channels) for module in targets]
    return trained_layers(geometry, trains) * rank * sum(shape[axis] for shape in shapes for axis in axes)


def forward_flops(
    geometry: Geometry,
    *,
    heads: int,
    channels: int,
    rank: int,
    targets: tuple[str, ...],
    batch_size: int,
    max_length: int,
) -> float:
    """Return floating-point operations of one forward pass (a multiply-add is two); rank 0 is without adapters."""
    work = _Work(
        geometry=geometry,
        heads=heads,
        channels=channels,
        rank=rank,
        targets=targets,
        tokens=batch_size * max_length,
        dtype_bytes=FLOAT_BYTES,
    )
    return work.base_flops(max_length) + work.adapter_flops()


def step_seconds(
    geometry: Geometry,
    *,
    heads: int,
    channels: int,
    rank: int,
    targets: tuple[str, ...],
    batch_size: int,
    max_length: int,
    flops_per_s: float,
    slowdown: float = 1.0,
    trains: TrainedPart = EVERYTHING,
) -> float:
    """Return the seconds of one training step on a device that does `flops_per_s` / `slowdown`.

    A base layer costs its forward twice (forward, gradient of its input), an adapter three times (and the gradient of
    its factors). Where layers or factors do not train (`trains`), their gradients are not formed. Raises ConfigError
    unless `flops_per_s` > 0 and `slowdown` >= 1.
    """
    if flops_per_s <= 0 or slowdown < 1.0:
        raise ConfigError(f"cost model: expected flops_per_s > 0 and slowdown >= 1, got {flops_per_s}, {slowdown}")
    work = _Work(
        geometry=geometry,
        heads=heads,
        channels=channels,
        rank=rank,
        targets=targets,
        tokens=batch_size * max_length,
        dtype_bytes=FLOAT_BYTES,
        trains=trains,
    )
    forward = work.base_flops(max_length) + work.adapter_flops()
    backward = forward * work.trained_layers / geometry.layers  # of inputs
    return (forward + backward + work.factor_gradient_flops()) / flops_per_s * slowdown


def base_step_flops(geometry: Geometry, *, batch_size: int, max_length: int) -> float:
    """Return the operations of a pass there and back through the dense frozen layers, without adapters."""
    forward = forward_flops(
        geometry,
        heads=geometry.head_units,
        channels=geometry.ffn,
        rank=0,
        targets=(),
        batch_size=batch_size,
        max_length=max_length,
    )
    return 2.0 * forward


def transfer_seconds(payload_bytes: float, mbps: float) -> float:
    """Return the seconds `payload_bytes` take on a link of `mbps` megabits per second; 0 is not limited."""
    if payload_bytes < 0 or mbps < 0:
        raise ConfigError(f"transfer: expected bytes and mbps of 0 or more, got {payload_bytes} and {mbps}")
    return 0.0 if mbps == 0 else payload_bytes * 8 / (mbps * 1e6)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """One training step's shape; `tokens` counts the whole batch."""

    geometry: Geometry
    heads: int
    channels: int
    rank: int
    targets: tuple[str, ...]
    tokens: int
    dtype_bytes: int
    trains: TrainedPart = EVERYTHING

    @property
    def trained_layers(self) -> int:
        """Layers whose adapters train: the backward pass ends at the first of them."""
        return trained_layers(self.geometry, self.trains)

    def trained_values(self) -> int:
        """Values of the LoRA factors that train."""
        return trained_values(
            self.geometry,
            heads=self.heads,
            channels=self.channels,
            rank=self.rank,
            targets=self.targets,
            trains=self.trains,
        )

    def shape(self, module: str) -> tuple[int, int]:
        """(out, in) of a module with the kept groups."""
        return self.geometry.shape(module, heads=self.heads, channels=self.channels)

    def adapter_values(self) -> int:
        """Values of all LoRA factors."""
        return self.geometry.layers * sum(self.rank * sum(self.shape(module)) for module in self.targets)

    def layer_activations(self) -> float:
        """Bytes that one layer's forward leaves for its backward."""
        hidden, query = self.geometry.hidden, self.shape("q")[0]
        values = 4 * query if self.geometry.gated else 2 * query + 2 * self.shape("k")[0]  # repeated k, v; output
        values += 2 * hidden  # inputs of the two norms, the residual streams
        values += (3 if self.geometry.gated else 1) * self.channels  # gate, its activation and up; or up alone
        return self.tokens * (values * self.dtype_bytes + self.adapter_inputs())

    def adapter_inputs(self) -> float:
        """Bytes per token that one layer's adapters keep: inputs for A's gradient, inner products for B's, in float32.

        A float32 base shares an input among the adapters that read it, and with the kernel that made it; on a
        bfloat16 base every adapter keeps its own float32 copy.
        """
        inner = 0 if self.trains.factors is Factors.A else len(self.targets) * self.rank * FLOAT_BYTES
        if self.trains.factors is Factors.B:
            return inner
        if self.dtype_bytes != FLOAT_BYTES:
            return inner + FLOAT_BYTES * sum(self.shape(module)[1] for module in self.targets)
        inputs = 0
        if {"q", "k", "v"} & set(self.targets):
            inputs += self.geometry.hidden
        if {"gate", "up"} & set(self.targets):
            inputs += self.geometry.hidden
        if "down" in self.targets:
            inputs += self.channels
        return inner + FLOAT_BYTES * inputs  # o reads the attention output, which is kept anyway

    def backward_temporaries(self) -> float:
        """Bytes of gradients of the widest intermediates while one layer's backward runs."""
        widest = max(self.channels, self.shape("q")[0], self.geometry.hidden)
        return self.tokens * FLOAT_BYTES * (BACKWARD_TEMPORARIES * widest + self.geometry.hidden)

    def base_flops(self, max_length: int) -> float:
        """Operations of the frozen layers: all linear layers, scores and their products with the values."""
        weights = sum(out * into for out, into in (self.shape(module) for module in self.geometry.modules))
        attention = 2 * max_length * self.shape("q")[0]
        return 2.0 * self.tokens * self.geometry.layers * (weights + attention)

    def adapter_flops(self) -> float:
        """Operations of the adapters alone."""
        return 2.0 * self.tokens * self.adapter_values()

    def factor_gradient_flops(self) -> float:
        """Operations of the gradients of the factors that train: as many as those factors' own products."""
        return 2.0 * self.tokens * self.trained_values()
