"""Analytic cost model: memory, arithmetic and seconds of a training step of a pruned model with adapters.

It models LoRA training with a frozen base as `fedcore.nn` does it: dropout is off; attention is a fused kernel that
saves query, key, value and output but no score matrix; autograd keeps the input of a linear layer only where an adapter
needs it. Compared with the measured peak of live tensors, the memory estimate was off by at most 2 % in float32 (5 %
too high without a padding mask) and 6 % in bfloat16, on small BERT- and Llama-type models. Strategies correct it by the
devices' measurements.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

from fedcore.core.errors import ConfigError
from fedcore.core.model.families import family_of
from fedcore.core.model.geometry import Counts, Geometry
from fedcore.core.model.quantization import NONE, weight_bytes
from fedcore.core.model.trained_part import EVERYTHING, Factors, TrainedPart
from fedcore.core.precision import BFLOAT16, FLOAT16

MIB = 2**20
FLOAT_BYTES = 4  # factors, head, their gradients and moments are float32 whatever the base
ADAM_COPIES = 3  # gradient, first and second moment of a trained value
HALF_BYTES = 2
BACKWARD_TEMPORARIES = 2  # gradients of wide intermediates alive at once while one layer's backward runs


class StepMode(NamedTuple):
    """How a device computes a step: its precision ("" as float32), and whether it computes activations twice."""

    precision: str = ""
    checkpointed: bool = False

    @property
    def half(self) -> bool:
        """Whether products are computed in 16 bits."""
        return self.precision in (BFLOAT16, FLOAT16)


PLAIN = StepMode()


@dataclass(frozen=True, slots=True, kw_only=True)
class StepShape:
    """One training step: a cut model, its adapters, and a batch of `batch_size` x `max_length` tokens.

    Adapters of `rank` are on `targets` in every layer; rank 0 is without adapters. `part` of them trains: layers that
    do not train keep no activations, and only trained values have gradients and moments.
    """

    geometry: Geometry
    kept: Counts  # in every layer, and how many layers are gone
    rank: int
    targets: tuple[str, ...]
    batch_size: int
    max_length: int
    dtype_bytes: int = FLOAT_BYTES  # of a frozen weight: 4 float32, 2 bfloat16
    part: TrainedPart = EVERYTHING
    quantize: str = NONE  # the form of the prunable layers' weights: fedcore.core.model.quantization
    mode: StepMode = PLAIN

    @property
    def dense(self) -> "StepShape":
        """The same step of the model with all its groups."""
        return replace(self, kept=self.geometry.dense)

    @property
    def tokens(self) -> int:
        """Tokens of a whole batch."""
        return self.batch_size * self.max_length

    @property
    def trained_layers(self) -> int:
        """Number of layers with adapters that train: the backward pass ends at the first of them."""
        return max(0, self.layers - self.part.first_layer)

    @property
    def layers(self) -> int:
        """Number of layers that are left."""
        return self.geometry.layers - self.kept.removed_layers

    def memory_mb(self, num_labels: int) -> float:
        """Return the estimated peak of live tensor memory, MiB, with a task head of `num_labels` rows."""
        geometry = self.geometry
        head = num_labels * (geometry.hidden + 1)
        terms = (
            self.frozen_bytes() + self._copied_bytes(),
            (self.adapter_values() + self.trained_values() * ADAM_COPIES) * FLOAT_BYTES,
            head * FLOAT_BYTES * (1 + ADAM_COPIES),
            self.tokens * geometry.hidden * self._stream_bytes,  # embedding output, the first residual stream
            self._activations(),
            self._backward_temporaries(),
        )
        return sum(terms) / MIB

    def seconds(self, flops_per_s: float, slowdown: float = 1.0) -> float:
        """Return the seconds on a device that does `flops_per_s` / `slowdown`.

        A base layer costs two forward passes (forward, gradient of its input), an adapter three (these, and the
        gradient of its factors). Layers or factors that do not train have no gradients. Raises ConfigError unless
        `flops_per_s` > 0 and `slowdown` >= 1.
        """
        if flops_per_s <= 0 or slowdown < 1.0:
            raise ConfigError(f"cost model: expected flops_per_s > 0 and slowdown >= 1, got {flops_per_s}, {slowdown}")
        forward = self.forward_flops()
        backward = forward * self.trained_layers / self.layers  # of inputs
        if self.mode.checkpointed:
            forward += backward
        gradients = 2.0 * self.tokens * self.trained_values()  # of factors: as many as those factors' own products
        return (forward + backward + gradients) / flops_per_s * slowdown

    def forward_flops(self) -> float:
        """Return floating-point operations of one forward pass; a multiply-add is two."""
        return self._base_flops() + 2.0 * self.tokens * self.adapter_values()

    def adapter_values(self) -> int:
        """Return the number of values of all LoRA factors."""
        return self.layers * sum(self.rank * sum(self._shape(module)) for module in self.targets)

    def trained_values(self) -> int:
        """Return the number of values of the LoRA factors that train, which an update holds beside the head's."""
        axes = {Factors.A: (1,), Factors.B: (0,), Factors.BOTH: (0, 1)}[self.part.factors]  # of (out, in)
        shapes = [self._shape(module) for module in self.targets]
        return self.trained_layers * self.rank * sum(shape[axis] for shape in shapes for axis in axes)

    @property
    def _stream_bytes(self) -> int:
        """Bytes of a value between layers: the base's own, float32 under float16, whose range sums may exceed."""
        return {BFLOAT16: HALF_BYTES, FLOAT16: FLOAT_BYTES}.get(self.mode.precision, self.dtype_bytes)

    @property
    def _product_bytes(self) -> int:
        """Bytes of a result of a linear layer."""
        return HALF_BYTES if self.mode.half else self.dtype_bytes

    def _copied_bytes(self) -> float:
        """Return the bytes of the copies of factors in 16 bits that a forward pass makes."""
        return self.adapter_values() * HALF_BYTES if self.mode.half else 0

    def _activations(self) -> float:
        """Return the bytes that all layers keep for the backward pass; checkpointed, each its input, and one all."""
        layer = self._layer_activations()
        if not self.mode.checkpointed or not self.trained_layers:
            return self.trained_layers * layer
        return layer + (self.trained_layers - 1) * self.tokens * self.geometry.hidden * self._stream_bytes

    def _shape(self, module: str) -> tuple[int, int]:
        """Return (out, in) of a module with the kept groups."""
        return self.geometry.shape(module, self.kept)

    def frozen_bytes(self) -> float:
        """Return the bytes of the frozen model; of packed weights, the largest is unpacked while it is used."""
        cut = self.geometry.kept_params(self.kept)
        others = (base_parameters(self.geometry, self.kept) - cut) * self._stream_bytes
        if self.quantize == NONE:
            return cut * self._product_bytes + others
        shapes = [self._shape(module) for module in self.geometry.modules]
        linear = self.layers * sum(out * into for out, into in shapes)
        packed = self.layers * sum(weight_bytes(self.quantize, shape, self.dtype_bytes) for shape in shapes)
        unpacked = max(out * into for out, into in shapes)
        return packed + (cut - linear + unpacked) * self._product_bytes + others

    def _layer_activations(self) -> float:
        """Return the bytes that one layer's forward pass keeps for its backward pass."""
        hidden, query = self.geometry.hidden, self._shape("q")[0]
        values = 4 * query if self.geometry.gated else 2 * query + 2 * self._shape("k")[0]  # repeated k, v; output
        values += (3 if self.geometry.gated else 1) * self.kept.channels  # gate, its activation and up; or up alone
        streams = 2 * hidden  # inputs of the two norms, the residual streams
        return self.tokens * (values * self._product_bytes + streams * self._stream_bytes + self._adapter_inputs())

    def _adapter_inputs(self) -> float:
        """Return the bytes a token of one layer's adapters: inputs for A's gradient, inner products for B's.

        A float32 base shares an input among the adapters that read it, and with the kernel that made it; on a
        bfloat16 base every adapter keeps its own float32 copy, and where products are in 16 bits, one of these.
        """
        size = HALF_BYTES if self.mode.half else FLOAT_BYTES
        inner = 0 if self.part.factors is Factors.A else len(self.targets) * self.rank * size
        if self.part.factors is Factors.B:
            return inner
        if self.dtype_bytes != FLOAT_BYTES or self.mode.half:
            return inner + size * sum(self._shape(module)[1] for module in self.targets)
        inputs = 0
        if {"q", "k", "v"} & set(self.targets):
            inputs += self.geometry.hidden
        if {"gate", "up"} & set(self.targets):
            inputs += self.geometry.hidden
        if "down" in self.targets:
            inputs += self.kept.channels
        return inner + FLOAT_BYTES * inputs  # o reads the attention output, which is kept anyway

    def _backward_temporaries(self) -> float:
        """Return the bytes of gradients of the widest intermediates while one layer's backward pass runs."""
        widest = max(self.kept.channels, self._shape("q")[0], self.geometry.hidden)
        return self.tokens * FLOAT_BYTES * (BACKWARD_TEMPORARIES * widest + self.geometry.hidden)

    def _base_flops(self) -> float:
        """Return the operations of the frozen layers: linear layers, scores, and products of scores and values."""
        weights = sum(out * into for out, into in (self._shape(module) for module in self.geometry.modules))
        attention = 2 * self.max_length * self._shape("q")[0]
        return 2.0 * self.tokens * self.layers * (weights + attention)


def base_parameters(geometry: Geometry, kept: Counts) -> int:
    """Return the number of frozen parameters: embeddings, layers with `kept` groups, norms; no task head."""
    hidden, family = geometry.hidden, family_of(geometry.model_type)
    embeddings = (geometry.vocab + geometry.positions + geometry.token_types) * hidden
    norm = hidden if family.shape == "llama" else 2 * hidden  # weight alone, or weight and bias
    kv = 2 * geometry.shape("k")[0] * (hidden + int(geometry.qkv_bias)) if geometry.kv_per_unit == 0 else 0
    uncut = hidden * (int(geometry.o_bias) + int(geometry.ffn_bias))  # biases of o and down stay whole
    per_layer = family.norms * norm + (2 * geometry.head_dim if family.head_norms else 0) + kv + uncut
    left = geometry.layers - kept.removed_layers
    return embeddings + norm + left * per_layer + geometry.kept_params(kept)


def base_step_flops(geometry: Geometry, *, batch_size: int, max_length: int) -> float:
    """Return the operations of a pass there and back through the dense frozen layers, without adapters."""
    step = StepShape(
        geometry=geometry, kept=geometry.dense, rank=0, targets=(), batch_size=batch_size, max_length=max_length
    )
    return 2.0 * step.forward_flops()


def transfer_seconds(payload_bytes: float, mbps: float) -> float:
    """Return the seconds `payload_bytes` take on a link of `mbps` megabits per second; 0 is not limited."""
    if payload_bytes < 0 or mbps < 0:
        raise ConfigError(f"transfer: expected bytes and mbps of 0 or more, got {payload_bytes} and {mbps}")
    return 0.0 if mbps == 0 else payload_bytes * 8 / (mbps * 1e6)
