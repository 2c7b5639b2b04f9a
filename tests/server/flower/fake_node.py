"""A node that answers assignments without training, as its fault says, on a Grid that holds one reply at a time."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.app.error import Error
from flwr.app.message import make_message
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from fedcore.core.codec.chain import encode
from fedcore.core.contract.profile import DeviceProfile
from fedcore.core.model.fingerprint import Fingerprint
from fedcore.core.model.geometry import Geometry
from fedcore.core.model.keep_set import KeepSet
from fedcore.protos.convert.stream import request_to_bytes, response_from_bytes
from fedcore.protos.records import BLOBS, JOIN, MESSAGES, RECORD, encoding
from fedcore.protos.values import AssignmentFailure, BlobRef, Join, Role, UpdateSubmission, Upward, WireAssignment
from fedcore.protos.wire import PROTOCOL
from fedcore.storage.blobs.name import blob_name
from tests.tiny_run import LABELS, device_report, score_vectors, small_update

Fault = Callable[["Answer"], Message]


@dataclass(kw_only=True)
class Answer:
    """What a node was asked, and what it would rightly answer."""

    message: Message
    assignment: WireAssignment
    submission: UpdateSubmission
    arrays: ArrayRecord

    def reply(self, answer: Upward, arrays: ArrayRecord | None = None) -> Message:
        """Make a reply of a message of ours and its payloads."""
        content = RecordDict({RECORD: ConfigRecord({MESSAGES: [request_to_bytes(answer)]})})
        if arrays is not None:
            content[BLOBS] = arrays
        return Message(content, reply_to=self.message)


def right(answer: Answer) -> Message:
    return answer.reply(answer.submission, answer.arrays)


def failing(answer: Answer) -> Message:
    return answer.reply(AssignmentFailure(round=answer.assignment.round, message="out of luck"))


def out_of_memory(answer: Answer) -> Message:
    failure = AssignmentFailure(round=answer.assignment.round, message="8 MiB are free", out_of_memory=True)
    return answer.reply(failure)


def erring(code: int) -> Fault:
    return lambda answer: Message(Error(code, "as told"), reply_to=answer.message)


def other_bytes(answer: Answer) -> Message:
    changed = {name: replace_data(array, b"\0" * len(array.data)) for name, array in answer.arrays.items()}
    return answer.reply(answer.submission, ArrayRecord(changed))


def too_large(answer: Answer) -> Message:
    data = b"\0" * (answer.assignment.max_upload_bytes + 1)
    ref = BlobRef(id=blob_name(data), size=len(data), name="update")
    arrays = ArrayRecord({ref.id: Array(dtype="uint8", shape=(len(data),), stype="x", data=data)})
    return answer.reply(replace(answer.submission, update=ref), arrays)


def without_payload(answer: Answer) -> Message:
    return answer.reply(answer.submission)


def of_another_app(answer: Answer) -> Message:
    return Message(RecordDict({"arrays": ArrayRecord([np.zeros(3)])}), reply_to=answer.message)


def not_finite(answer: Answer) -> Message:
    report = replace(
        answer.submission.report, metrics=replace(answer.submission.report.metrics, loss_after=float("nan"))
    )
    return answer.reply(replace(answer.submission, report=report), answer.arrays)


def replace_data(array: Array, data: bytes) -> Array:
    return Array(dtype=array.dtype, shape=array.shape, stype=array.stype, data=data)


@dataclass
class FakeNodes(Grid):
    """Nodes 11, 12, ... by name. A reply is made when it is pulled, and only one is pulled at a time."""

    mark: Fingerprint
    geometry: Geometry
    faults: dict[str, Fault]
    gone: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    messages: dict[str, Message] = field(default_factory=dict)
    arrays_seen: list[set[str]] = field(default_factory=list)
    ranks: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.names = {11 + number: name for number, name in enumerate(self.faults)}

    def set_run(self, run: Run) -> None:
        raise NotImplementedError

    @property
    def run(self) -> Run:
        return Run.create_empty(run_id=1)

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        return [node for node, name in self.names.items() if name not in self.gone]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        (message,) = messages
        number = f"message-{len(self.messages)}-{message.metadata.dst_node_id}"
        message.metadata.__dict__["_message_id"] = number
        self.messages[number] = message
        return [number]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        (number,) = message_ids
        message = self.messages.get(number)
        name = "" if message is None else self.names[message.metadata.dst_node_id]
        if message is None or name in self.silent:
            return []
        del self.messages[number]
        asked = make_message(metadata=message.metadata, content=message.content)
        return [self._join(name, asked) if message.metadata.message_type == JOIN else self._answer(name, asked)]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        raise NotImplementedError

    def _join(self, name: str, message: Message) -> Message:
        join = Join(
            protocol_min=PROTOCOL,
            protocol_max=PROTOCOL,
            role=Role.DEVICE,
            name=name,
            device_uuid=name,
            epoch=1,
            profile=DeviceProfile(name=name, device_class="tiny", num_examples=4),
            fingerprint=self.mark,
            max_length=8,
            labels=LABELS,
        )
        content = RecordDict({RECORD: ConfigRecord({MESSAGES: [request_to_bytes(join)]})})
        return Message(content, reply_to=message)

    def _answer(self, name: str, message: Message) -> Message:
        record = message.content.config_records[RECORD]
        _, assignment = (response_from_bytes(each) for each in record[MESSAGES])  # type: ignore[arg-type, union-attr]
        assert isinstance(assignment, WireAssignment)
        held = message.content.array_records[BLOBS]
        self.arrays_seen.append({array.stype for array in held.values()})
        self.ranks[name] = assignment.arm.rank
        told = held[assignment.kept.id].data
        keep_set = KeepSet.from_bits(told) if assignment.rings else KeepSet.from_bytes(told)
        data = encode(small_update(self.geometry, assignment, keep_set, name), assignment.training.codec)
        parts = {"update": (data, encoding(assignment.training.codec))}
        if assignment.score:
            parts["scores"] = encode(score_vectors(keep_set, name), "identity"), "fedcore.identity"
        refs = {key: BlobRef(id=blob_name(each), size=len(each), name=key) for key, (each, _) in parts.items()}
        arrays = ArrayRecord(
            {
                refs[key].id: Array(dtype="uint8", shape=(len(each),), stype=stype, data=each)
                for key, (each, stype) in parts.items()
            }
        )
        submission = UpdateSubmission(
            round=assignment.round,
            update=refs["update"],
            scores=refs.get("scores"),
            keep_set=assignment.keep_set.id,
            report=device_report(),
        )
        return self.faults[name](Answer(message=message, assignment=assignment, submission=submission, arrays=arrays))
