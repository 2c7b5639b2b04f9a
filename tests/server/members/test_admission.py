"""The rules of a join, one by one; and the label list, which the first newcomer may bring."""

import asyncio
from dataclasses import replace

import pytest

from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.errors import CertificateError, JoinRefused
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.core.tasks.classification import CLASSIFICATION
from fedcore.core.tasks.table import TASKS
from fedcore.protos.values import Join, Role, RunDescription
from fedcore.protos.wire import PROTOCOL
from fedcore.server.members.admission import Admission, check_identity, check_labels, check_model, check_protocol
from fedcore.storage.pki.certificates import Identity, Kind

MARK = Fingerprint(tensors="a" * 64, config="b" * 64, tokenizer="c" * 64)
JOIN = Join(
    protocol_min=PROTOCOL,
    protocol_max=PROTOCOL,
    role=Role.DEVICE,
    name="agx-0",
    device_uuid="uuid",
    epoch=1,
    profile=DeviceProfile(name="agx-0", device_class="agx", num_examples=1),
    fingerprint=MARK,
    max_length=64,
    labels=("no", "yes"),
)
EVALUATOR = replace(JOIN, role=Role.EVALUATOR, name="eval", profile=None)


@pytest.mark.parametrize(("low", "high"), [(1, 1), (0, 1), (1, 5), (0, 9)])
def test_any_range_that_holds_our_protocol_will_do(low: int, high: int) -> None:
    check_protocol(replace(JOIN, protocol_min=low, protocol_max=high))


@pytest.mark.parametrize(("low", "high"), [(2, 3), (0, 0), (3, 1)])
def test_a_range_without_it_is_refused_with_both_sides(low: int, high: int) -> None:
    with pytest.raises(JoinRefused, match=f"agx-0 speaks protocol {low}-{high}, this coordinator {PROTOCOL}; install"):
        check_protocol(replace(JOIN, protocol_min=low, protocol_max=high))


@pytest.mark.parametrize(("kind", "name"), [("device", "agx-0"), ("class", "agx")])
def test_a_certificate_of_the_device_or_its_class_lets_it_in(kind: Kind, name: str) -> None:
    check_identity(JOIN, Identity(kind=kind, name=name))


@pytest.mark.parametrize(
    ("kind", "name"),
    [("device", "agx-1"), ("class", "nx"), ("class", "agx-0"), ("device", "agx"), ("evaluator", "agx-0")],
)
def test_any_other_certificate_keeps_a_device_out(kind: Kind, name: str) -> None:
    with pytest.raises(CertificateError, match=f"certificate for {kind}:{name}, expected class:agx or device:agx-0"):
        check_identity(JOIN, Identity(kind=kind, name=name))


@pytest.mark.parametrize("kind", ["device", "class", "coordinator", "edge"])
def test_an_evaluator_needs_an_evaluators_certificate(kind: Kind) -> None:
    check_identity(EVALUATOR, Identity(kind="evaluator", name="eval"))
    with pytest.raises(CertificateError, match="expected evaluator:eval; issue one with: fedcore certs"):
        check_identity(EVALUATOR, Identity(kind=kind, name="eval"))


def test_without_tls_nobody_has_an_identity() -> None:
    check_identity(JOIN, None)


@pytest.mark.parametrize("part", ["tensors", "config", "tokenizer"])
def test_a_difference_of_the_base_model_names_both_hashes(part: str) -> None:
    check_model(JOIN, MARK, 64)
    ours = getattr(MARK, part)[:16]
    with pytest.raises(JoinRefused, match=f"{part} {ours} here, {'d' * 16} there"):
        check_model(replace(JOIN, fingerprint=replace(MARK, **{part: "d" * 64})), MARK, 64)


def test_another_length_is_refused_with_both() -> None:
    with pytest.raises(JoinRefused, match="agx-0 cuts texts at 64 tokens, this run at 32"):
        check_model(JOIN, MARK, 32)


@pytest.mark.parametrize("labels", [(), ("yes",), ("no",), ("no", "yes"), ("yes", "no")])
def test_some_of_the_agreed_labels_are_enough(labels: tuple[str, ...]) -> None:
    check_labels(replace(JOIN, labels=labels), ("no", "yes", "maybe"))


def test_a_foreign_label_is_named_and_long_ones_are_cut() -> None:
    with pytest.raises(JoinRefused, match=r"rows labelled \['maybe'\], outside the agreed labels \['no', 'yes'\]"):
        check_labels(replace(JOIN, labels=("no", "maybe")), ("no", "yes"))
    texts = tuple(f"{number} " + "a whole text " * 100 for number in range(50))
    with pytest.raises(JoinRefused) as caught:
        check_labels(replace(JOIN, labels=texts), texts[10:])
    assert len(str(caught.value)) < 1000


class Run:
    """What an admission tells its run."""

    def __init__(self, labels: tuple[str, ...] = (), task: str = "") -> None:
        self.labels: list[tuple[str, ...]] = []
        self.profiles: list[DeviceProfile] = []
        self.broken: JoinRefused | None = None
        self.admission = Admission(
            RunDescription(
                protocol_min=PROTOCOL,
                protocol_max=PROTOCOL,
                run_id="run",
                labels=labels,
                fingerprint=MARK,
                model_files=(),
                max_length=64,
                head="mean",
                dtype="float32",
                task=task,
            ),
            on_labels=self._begin,
            check_profile=self.profiles.append,
        )

    async def _begin(self, labels: tuple[str, ...]) -> None:
        await asyncio.sleep(0)  # others come meanwhile
        if self.broken is not None:
            raise self.broken
        self.labels.append(labels)


async def test_the_first_newcomer_fixes_the_labels_once_and_sorted() -> None:
    run = Run()
    first = replace(JOIN, labels=("yes", "no"))
    await asyncio.gather(*(run.admission.check(join) for join in (first, JOIN, replace(JOIN, labels=("no",)))))
    assert run.labels == [("no", "yes")] and run.admission.description.labels == ("no", "yes")
    with pytest.raises(JoinRefused, match="outside the agreed labels"):
        await run.admission.check(replace(JOIN, labels=("maybe", "no")))
    assert run.profiles == [JOIN.profile] * 3, "after the labels, and only of those that fit"


async def test_labels_of_the_configuration_stay() -> None:
    run = Run(("no", "yes", "maybe"))
    await run.admission.check(JOIN)
    assert run.labels == [("no", "yes", "maybe")] and run.admission.description.labels == ("no", "yes", "maybe")


async def test_a_newcomer_with_one_label_fixes_nothing_and_the_next_one_does() -> None:
    run = Run()
    with pytest.raises(JoinRefused, match=r"the first shard has only the labels \['no'\], and the run names none"):
        await run.admission.check(replace(JOIN, labels=("no",)))
    run.broken = JoinRefused("no engine")
    with pytest.raises(JoinRefused, match="no engine"):
        await run.admission.check(JOIN)
    assert run.admission.description.labels == () and run.profiles == []
    run.broken = None
    await run.admission.check(JOIN)
    assert run.labels == [("no", "yes")]


async def test_a_task_without_labels_begins_before_any_device_tells_one() -> None:
    TASKS.add("unlabelled", replace(CLASSIFICATION, labelled=False))
    try:
        run = Run(task="unlabelled")
    finally:
        TASKS.remove("unlabelled")
    assert run.admission.needs_no_device and not Run().admission.needs_no_device
    await run.admission.fix_labels(())
    await run.admission.check(replace(JOIN, labels=()))
    assert run.labels == [()] and run.profiles == [JOIN.profile]
    with pytest.raises(JoinRefused, match="outside the agreed labels"):
        await run.admission.check(JOIN)


async def test_an_edge_has_no_model_and_an_evaluator_no_profile() -> None:
    run = Run()
    await run.admission.check(replace(JOIN, role=Role.EDGE, profile=None, max_length=0, labels=()))
    assert run.labels == []
    with pytest.raises(JoinRefused, match="cuts texts at 0 tokens"):
        await run.admission.check(replace(EVALUATOR, max_length=0))
    await run.admission.check(EVALUATOR)
    assert run.labels == [("no", "yes")] and run.profiles == []
