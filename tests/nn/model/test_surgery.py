import copy

import numpy as np
import pytest
import torch
import torch_pruning
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModel, AutoModelForCausalLM

from fedcore.core.errors import ProtocolError
from fedcore.core.model.keep_set import KeepSet
from fedcore.core.model.module_paths import blocks_path
from fedcore.nn.model.classifier import Classifier
from fedcore.nn.model.load import load_classifier
from fedcore.nn.model.lora import adapted, attach, load_adapter, read_adapter, trainable_parameters
from fedcore.nn.model.surgery import positions, shrink
from tests.tiny_models import KINDS, random_keep_set, tiny_batch, tiny_model

LABELS = ("neg", "pos")
LABEL_IDS = torch.tensor([0, 1, 1])


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Classifier]:
    folders = {kind: tiny_model(tmp_path_factory.mktemp(kind), kind) for kind in KINDS}
    return {kind: load_classifier(folder, labels=LABELS) for kind, folder in folders.items()}


def halved(classifier: Classifier, seed: int = 0) -> KeepSet:
    units = max(1, classifier.geometry.head_units // 2)
    return random_keep_set(classifier.keep_set, heads=units, channels=classifier.geometry.ffn // 2, seed=seed)


def with_adapters(classifier: Classifier, rank: int = 3, seed: int = 0) -> Classifier:
    """Return a copy with random adapters, B included."""
    copied = copy.deepcopy(classifier)
    attach(copied, rank=rank, scale=2.0, targets=copied.geometry.modules)
    rng = np.random.default_rng(seed)
    drawn = {name: rng.normal(0, 0.1, value.shape).astype(np.float32) for name, value in read_adapter(copied).items()}
    load_adapter(copied, drawn)
    return copied


def mask(classifier: Classifier, keep_set: KeepSet) -> None:
    """Zero the columns through which removed heads and channels reach the residual stream, adapters included."""
    for layer in range(classifier.geometry.layers):
        for module in ("o", "down"):
            kept = keep_set.indices(classifier.geometry, layer, module)
            linear = classifier.linear(layer, module)
            weights = [classifier.base_linear(layer, module).weight]
            weights += [factor.weight for factor in getattr(linear, "lora_A", {}).values()]
            for weight in weights:
                gone = np.setdiff1d(np.arange(weight.shape[1]), kept)
                weight.data[:, torch.from_numpy(gone)] = 0.0


def logits(classifier: Classifier) -> torch.Tensor:
    with torch.no_grad():
        return classifier.model(**tiny_batch()).logits


@pytest.mark.parametrize("adapters", [False, True], ids=["plain", "lora"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_pruned_model_computes_what_the_masked_one_does(dense, kind: str, adapters: bool) -> None:
    masked = with_adapters(dense[kind]) if adapters else copy.deepcopy(dense[kind])
    pruned = copy.deepcopy(masked)
    keep_set = halved(masked)
    mask(masked, keep_set)
    shrink(pruned, keep_set)
    torch.testing.assert_close(logits(pruned), logits(masked), atol=1e-5, rtol=1e-5)
    assert (logits(pruned) - logits(dense[kind])).abs().max() > 1e-3  # the mask was not idle


@pytest.mark.parametrize("kind", ["bert", "llama-gqa", "llama-mqa"])
def test_eager_attention_agrees(dense, kind: str) -> None:
    eager = load_classifier(dense[kind].folder, labels=LABELS, attention="eager")
    masked = copy.deepcopy(eager)
    keep_set = halved(masked)
    mask(masked, keep_set)
    shrink(eager, keep_set)
    torch.testing.assert_close(logits(eager), logits(masked), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_shapes_shrink_and_parameters_follow_the_geometry(dense, kind: str) -> None:
    classifier = with_adapters(dense[kind], rank=3)
    geometry, before = classifier.geometry, classifier.count_parameters()
    keep_set = halved(classifier)
    shrink(classifier, keep_set)
    assert classifier.keep_set == keep_set
    removed = geometry.prunable_params - geometry.kept_params(keep_set.counts)
    assert before - classifier.count_parameters() == removed
    for layer in range(geometry.layers):
        for module in geometry.modules:
            expected = geometry.shape(module, keep_set.counts)
            base, outer = classifier.base_linear(layer, module), classifier.linear(layer, module)
            assert tuple(base.weight.shape) == (base.out_features, base.in_features) == expected
            assert base.bias is None or tuple(base.bias.shape) == expected[:1]
            assert (outer.out_features, outer.in_features) == expected
            assert not base.weight.requires_grad
            # nothing keeps the dense storage alive
            assert base.weight.untyped_storage().nbytes() == base.weight.numel() * base.weight.element_size()
    for _, layer_with_adapter in adapted(classifier):
        a, b = layer_with_adapter.lora_A["default"], layer_with_adapter.lora_B["default"]
        assert tuple(a.weight.shape) == (a.out_features, a.in_features) == (3, layer_with_adapter.in_features)
        assert tuple(b.weight.shape) == (b.out_features, b.in_features) == (layer_with_adapter.out_features, 3)


@settings(max_examples=12, deadline=None)
@given(kind=st.sampled_from(sorted(KINDS)), seed=st.integers(0, 99), steps=st.lists(st.integers(1, 10), max_size=3))
def test_cutting_in_steps_is_cutting_once(dense, kind: str, seed: int, steps: list[int]) -> None:
    stepwise = with_adapters(dense[kind])
    once = copy.deepcopy(stepwise)
    for step, share in enumerate(sorted(steps, reverse=True)):
        heads, channels, _ = stepwise.keep_set.counts
        smaller = random_keep_set(
            stepwise.keep_set,
            heads=max(1, heads * share // 10),
            channels=max(1, channels * share // 10),
            seed=seed + step,
        )
        shrink(stepwise, smaller)
    shrink(once, stepwise.keep_set)
    for (name, left), (_, right) in zip(stepwise.model.named_parameters(), once.model.named_parameters(), strict=True):
        assert torch.equal(left, right), name
    assert torch.equal(logits(stepwise), logits(once))


def test_positions_are_those_within_the_current_set(dense) -> None:
    geometry = dense["llama-gqa"].geometry  # 9 query heads in 3 units, head_dim 4
    full = KeepSet.full(geometry)
    old = KeepSet(heads=((0, 2), (0, 1)), channels=full.channels)
    new = KeepSet(heads=((2,), (0,)), channels=full.channels)
    assert positions(geometry, old, new, 0, "k").tolist() == [4, 5, 6, 7]
    assert positions(geometry, old, new, 0, "q").tolist() == list(range(12, 24))
    assert positions(geometry, old, new, 1, "o").tolist() == list(range(12))
    assert positions(geometry, old, new, 0, "up") is None


@pytest.mark.parametrize(
    ("heads", "channels", "message"),
    [
        ((0, 1, 2, 3), range(48), "pruning never goes back"),
        ((0, 9), range(24), "head unit indices"),
        ((), range(24), "at least one"),
        ((0,), (1, 0), "channel indices"),
    ],
)
def test_an_illegal_keep_set_changes_nothing(dense, heads, channels, message: str) -> None:
    classifier = copy.deepcopy(dense["bert"])
    shrink(classifier, halved(classifier))
    before, held = classifier.count_parameters(), classifier.keep_set
    with pytest.raises(ProtocolError, match=message):
        shrink(classifier, KeepSet(heads=(tuple(heads),) * 2, channels=(tuple(channels),) * 2))
    assert classifier.count_parameters() == before
    assert classifier.keep_set is held


def test_a_bfloat16_base_keeps_its_dtypes(dense) -> None:
    classifier = load_classifier(dense["bert"].folder, labels=LABELS, dtype="bfloat16")
    attach(classifier, rank=2, scale=1.0, targets=("q", "down"))
    shrink(classifier, halved(classifier))
    assert classifier.base_linear(0, "q").weight.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in trainable_parameters(classifier).values()} == {torch.float32}
    assert logits(classifier).isfinite().all()


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_torch_pruning_removes_the_same_ffn_channels(dense, kind: str) -> None:
    ours = copy.deepcopy(dense[kind])
    keep_set = random_keep_set(ours.keep_set, heads=ours.geometry.head_units, channels=20)
    shrink(ours, keep_set)
    # traced with the pooler, where every parameter has a gradient: torch-pruning follows the graph
    theirs = AutoModel.from_pretrained(dense[kind].folder, attn_implementation="eager").eval()
    for index, layer in enumerate(theirs.encoder.layer):
        graph = torch_pruning.DependencyGraph().build_dependency(theirs, example_inputs=dict(tiny_batch()))
        gone = sorted(set(range(48)) - set(keep_set.channels[index]))
        graph.get_pruning_group(layer.intermediate.dense, torch_pruning.prune_linear_out_channels, gone).prune()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.backbone.named_parameters():
        assert torch.equal(parameter, expected[name]), name
    with torch.no_grad():
        states = theirs(**tiny_batch()).last_hidden_state
        torch.testing.assert_close(ours.backbone(**tiny_batch()).last_hidden_state, states, atol=1e-5, rtol=1e-5)


def shorter(keep_set: KeepSet, *gone: int) -> KeepSet:
    heads, channels = (
        tuple(() if layer in gone else row for layer, row in enumerate(rows))
        for rows in (keep_set.heads, keep_set.channels)
    )
    return KeepSet(heads=heads, channels=channels)


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Classifier]:
    kinds = ("bert", "llama-gqa", "llama-mqa", "qwen2")
    folders = {kind: tiny_model(tmp_path_factory.mktemp(kind), kind, layers=4) for kind in kinds}
    return {kind: load_classifier(folder, labels=LABELS) for kind, folder in folders.items()}


@pytest.mark.parametrize("kind", ["bert", "llama-gqa", "llama-mqa", "qwen2"])
def test_a_model_without_layers_computes_what_one_does_that_skips_them(deep, kind: str) -> None:
    skipping = with_adapters(deep[kind])
    cut = copy.deepcopy(skipping)
    keep_set = halved(cut)
    mask(skipping, keep_set)
    path = blocks_path(cut.geometry)
    for layer in (0, 2):
        block = skipping.backbone.get_submodule(f"{path}.{layer}")
        block.forward = lambda hidden_states, *_, **__: hidden_states
    shrink(cut, shorter(keep_set, 2))
    shrink(cut, shorter(keep_set, 0, 2))
    torch.testing.assert_close(logits(cut), logits(skipping), atol=1e-5, rtol=1e-5)
    assert cut.layers == (1, 3) and len(cut.backbone.get_submodule(path)) == 2
    assert {name.split(".")[1] for name, _ in adapted(cut)} == {"1", "3"}
    assert cut.path(3, "q").startswith(f"{path}.1.") and cut.model.config.num_hidden_layers == 2
    removed = cut.geometry.prunable_params - cut.geometry.kept_params(cut.keep_set.counts)
    assert deep[kind].count_parameters() - cut.count_parameters() >= removed
    with pytest.raises(ProtocolError, match="never goes back"):
        shrink(cut, shorter(keep_set, 0))


def test_a_causal_model_without_its_first_layer_generates_with_its_cache(tmp_path) -> None:
    folder = tiny_model(tmp_path / "llama", "llama-gqa", layers=4)
    classifier = load_classifier(folder, labels=LABELS)
    shrink(classifier, shorter(classifier.keep_set, 0, 2))
    config = classifier.backbone.config
    writer = AutoModelForCausalLM.from_config(config).eval()
    writer.model = classifier.backbone.eval()
    ids = torch.tensor([[2, 5, 9, 7]])
    cached, anew = (
        writer.generate(ids, max_new_tokens=6, do_sample=False, use_cache=use_cache, pad_token_id=0)
        for use_cache in (True, False)
    )
    assert torch.equal(cached, anew)
    layers = [block.self_attn.layer_idx for block in classifier.backbone.layers]
    assert layers == [0, 1] and config.num_hidden_layers == 2
