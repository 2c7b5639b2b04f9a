"""The trained values of many devices and their optimiser state, as matrices with one line per device.

A line holds the tensors of one device one after the other, in canonical order, factors first. So a computation per
device (norm, sensitivity, increment) is one operation along a line, and a device's optimiser step is the
fused AdamW step of `fedcore.nn.training.optimizer` on its line. Memory: 12 bytes per device and value (values, both
moments).
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.adamw import adamw

from fedcore.core.errors import ModelError
from fedcore.core.model.trained_part import EVERYTHING, TrainedPart
from fedcore.nn.batched.packed_rows import CPU
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.lora import adapted, scale_of, trainable_parameters
from fedcore.nn.training.moments import BETAS, Moment, Moments

EPSILON = 1e-8  # torch's default, which one-by-one training uses


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The position of every tensor in a line."""

    shapes: dict[str, tuple[int, ...]]  # by canonical name, factors first
    scales: dict[str, float]  # of every B: wire value / local value
    spans: dict[str, slice]

    @staticmethod
    def of(classifier: Classifier, trains: TrainedPart = EVERYTHING) -> "Layout":
        """Return the layout of the trained tensors: factors at their present rank, and head."""
        parameters = trains.of(trainable_parameters(classifier))
        shapes = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
        edges = list(itertools.accumulate((math.prod(shape) for shape in shapes.values()), initial=0))
        return Layout(
            shapes=shapes,
            scales={f"{key}.B": scale_of(layer) for key, layer in adapted(classifier) if f"{key}.B" in shapes},
            spans=dict(zip(shapes, itertools.starmap(slice, itertools.pairwise(edges)), strict=True)),
        )

    @property
    def values(self) -> int:
        """Values in a line."""
        return sum(math.prod(shape) for shape in self.shapes.values())

    @property
    def factor_values(self) -> int:
        """Values of the factors, which come first in a line."""
        return sum(math.prod(shape) for name, shape in self.shapes.items() if name.startswith("layers."))

    def split(self, lines: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return views (devices, *shape) of lines (devices, values), by name."""
        return {name: lines[:, span].view(-1, *self.shapes[name]) for name, span in self.spans.items()}

    def line(self, tensors: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Return tensors as one line (values,). Raises ModelError where names or shapes are not the layout's."""
        shapes = {name: value.shape for name, value in tensors.items()}
        if shapes != self.shapes:
            wrong = sorted(set(shapes.items()) ^ set(self.shapes.items()))[:2]
            raise ModelError(f"adapter does not fit the model: {wrong}; load_adapter sets the rank")
        return np.concatenate([tensors[name].reshape(-1) for name in self.shapes])


class StackedState:
    """Local values and AdamW's state, on `device`, of virtual devices that all start from one adapter."""

    def __init__(
        self,
        layout: Layout,
        before: Mapping[str, NDArray[np.float32]],
        saved: Sequence[Moments],
        device: torch.device = CPU,
    ) -> None:
        self.layout = layout
        self._wire = torch.from_numpy(layout.line(before)).to(device)
        scales = torch.ones(layout.values, device=device)
        for name, scale in layout.scales.items():
            scales[layout.spans[name]] = scale
        self.scales = scales
        self.values = (self._wire / scales).repeat(len(saved), 1)
        self.first, self.second = torch.zeros_like(self.values), torch.zeros_like(self.values)
        self.steps = torch.zeros(
            len(saved), len(layout.shapes)
        )  # (devices, tensors); they differ where moments.follow has rewound a tensor
        for index, moments in enumerate(saved):
            self._restore(index, moments)
        self._parts = [self._parts_of(line) for line in self.steps]
        self.steps = self.steps.to(device)

    def step(
        self, devices: Sequence[int], gradients: torch.Tensor, *, learning_rate: float, weight_decay: float
    ) -> None:
        """Take one AdamW step with `gradients` (devices, values) on these devices' lines."""
        parts = [(line, device, *part) for line, device in enumerate(devices) for part in self._parts[device]]
        adamw(
            [self.values[device, span] for _, device, _, span in parts],
            [gradients[line, span] for line, _, _, span in parts],
            [self.first[device, span] for _, device, _, span in parts],
            [self.second[device, span] for _, device, _, span in parts],
            [],
            [self.steps[device, name].clone() for _, device, name, _ in parts],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=learning_rate,
            weight_decay=weight_decay,
            eps=EPSILON,
            maximize=False,
        )
        self.steps[list(devices)] += 1

    def increments(self) -> dict[str, NDArray[np.float32]]:
        """Return all increments, (devices, *shape) by name, scale folded into B; this invalidates the state."""
        lines = self.values.mul_(self.scales).sub_(self._wire).cpu()
        return {name: value.numpy() for name, value in self.layout.split(lines).items()}

    def tensors(self, device: int) -> dict[str, NDArray[np.float32]]:
        """Return copies of one device's values, scale folded into B, as `load_adapter` takes them."""
        line = (self.values[device] * self.scales)[None].cpu()
        return {name: value[0].numpy() for name, value in self.layout.split(line).items()}

    def moments(self, device: int) -> dict[str, Moment]:
        """Return a copy of the optimiser state of one device, as `fedcore.nn.training.optimizer.moments` does."""
        first, second = (lines[device].cpu().numpy().copy() for lines in (self.first, self.second))
        return {
            name: Moment(first=first[span].reshape(shape), second=second[span].reshape(shape), step=int(step))
            for (name, shape), span, step in zip(
                self.layout.shapes.items(), self.layout.spans.values(), self.steps[device].cpu(), strict=True
            )
            if step > 0
        }

    def _restore(self, device: int, moments: Moments) -> None:
        for column, (name, shape) in enumerate(self.layout.shapes.items()):
            if name not in moments:
                continue
            moment = moments[name]
            if moment.first.shape != shape:
                raise ModelError(
                    f"optimiser state of {name} has shape {moment.first.shape}, the parameter {shape};"
                    " move it with moments.follow or start without it"
                )
            span = self.layout.spans[name]
            self.first[device, span] = torch.from_numpy(moment.first.reshape(-1))
            self.second[device, span] = torch.from_numpy(moment.second.reshape(-1))
            self.steps[device, column] = moment.step

    def _parts_of(self, steps: torch.Tensor) -> list[tuple[int, slice]]:
        """Return (column of the step count, span) of the parts that step together: one line if all counts are equal."""
        if bool((steps == steps[0]).all()):
            return [(0, slice(0, self.layout.values))]
        return list(enumerate(self.layout.spans.values()))
