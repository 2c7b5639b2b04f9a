"""[training]: local training on a device, and how updates and adapters travel."""

from dataclasses import dataclass
from typing import Annotated

from fedcore.core.config.keys import Unit, check_keys
from fedcore.core.config.rules import above, at_least, one_of, whole_number, within
from fedcore.core.precision import AUTO, PRECISIONS
from fedcore.core.pruning.criteria import CRITERIA


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """[training]: local training on a device, and how updates and adapters travel."""

    local_steps: Annotated[
        int | None,
        whole_number(1),
        Unit("steps"),
        "optimiser steps of a device in a round; `auto`: about two passes over its rows in the whole run, 4 to 20 a "
        "round, and fewer on a device with less rows than a batch",
    ] = None
    batch_size: Annotated[int, whole_number(1), Unit("rows"), "rows of one step"] = 16
    learning_rate: Annotated[
        float | None,
        above(0),
        "learning rate of AdamW in the first round; `auto`: devices try some rates for a few steps each in the first "
        "round, and the coordinator compares the losses",
    ] = None
    final_lr_share: Annotated[
        float,
        within(0, 1, "(]"),
        "share of the learning rate that is left in the last round; half a cosine lies between; 1: constant",
    ] = 0.1
    precision: Annotated[
        str,
        one_of(AUTO, *PRECISIONS),
        "in which devices compute; factors, head and optimiser are float32 always. `auto`: float32 on the CPU, 16 bits "
        "on an accelerator: bfloat16 where it has that, else float16; a class may have its own",
    ] = AUTO
    gradient_checkpointing: Annotated[
        bool | None,
        "whether a step computes each layer's activations again in its backward pass, which takes a third more time "
        "and far less memory; `auto`: only where an arm would not fit into a device's memory otherwise",
    ] = False
    weight_decay: Annotated[float, at_least(0), "weight decay of AdamW"] = 0.0
    lora_scale: Annotated[float, above(0), "alpha / rank, the same for every rank"] = 2.0
    targets: Annotated[
        tuple[str, ...],
        "linear layers with adapters, out of q, k, v, o, gate, up, down; empty: every prunable one",
    ] = ()
    importance: Annotated[
        str,
        one_of(*CRITERIA),
        "how groups are scored: `taylor` (weight times gradient on one batch), `lora-taylor` (from LoRA's gradients, "
        "smoothed), `magnitude`, `wanda-sp`, `flap`, `amp` (by activations), `random`, `l0` (gates learned with the "
        "adapters)",
    ] = "taylor"
    keep_optimizer: Annotated[bool, "whether Adam's moments are carried over rounds (`factor-mean` only)"] = False
    distill: Annotated[
        float,
        within(0.0, 1.0),
        "weight of learning from the dense model on devices that are cut; 0 is off; grows into plain distillation over "
        "the rounds after the warm-up",
    ] = 0.0
    distill_temperature: Annotated[float, above(0), "temperature of teacher and student"] = 1.0
    label_skew: Annotated[
        str,
        one_of("balance", "adjust", "ignore"),
        "what devices do about label shares of their own: `balance` draws batches in the fleet's shares as far as "
        "their rows reach and adjusts the loss for the rest, `adjust` does the latter alone, `ignore` neither; but for "
        "`ignore`, the coordinator learns each device's label counts",
    ] = "balance"
    codec: Annotated[
        str, "how updates are encoded: parts joined by `+`, see [codecs](#codecs); a class may have its own"
    ] = "bf16+zstd"
    downlink: Annotated[
        str,
        one_of("full", "delta", "bf16"),
        "how the adapter goes down. `full`: float32; `delta`: its blobs are offered also as lossless differences from "
        "the last round's; `bf16`: factors are handed out rounded to bfloat16 and compressed, a third of the bytes "
        "(the coordinator keeps them in float32; the evaluator measures and exports what is handed out)",
    ] = "full"
    handout: Annotated[
        str | None,
        one_of("whole", "kept"),
        "`kept`: a device fetches no rows of groups it dropped, at 50 % sparsity 30 to 40 % fewer bytes; or `whole`. "
        "Left out, it is `kept` under aggregators of means (`factor-mean`, `layer-mean`) with one removal order "
        '(`strategy.order = "fleet"`) and without distillation, else `whole`',
    ] = None

    def __post_init__(self) -> None:
        check_keys(self, "training.")
