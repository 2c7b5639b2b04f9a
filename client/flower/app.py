"""Our device as a Flower ClientApp: `app = client_app()`."""

from collections.abc import Callable

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedcore.client.flower.device import join_of
from fedcore.client.flower.settings import NodeSettings, node_settings
from fedcore.client.flower.state import NodeState, node_folder
from fedcore.core.errors import FedcoreError, OutOfMemory, ProtocolError
from fedcore.protos.convert.device import description_from_bytes
from fedcore.protos.convert.stream import request_to_bytes, response_from_bytes
from fedcore.protos.records import BLOBS, JOIN, MESSAGES, RECORD, RUN
from fedcore.protos.values import AssignmentFailure, RunDescription, Upward, Welcome, WireAssignment

MAX_REPORT = 500  # characters of an error that travel to the server


def client_app(settings_of: Callable[[Context], NodeSettings] = node_settings) -> ClientApp:
    """Return the app of every node; `settings_of` says what device a node is."""
    app = ClientApp()

    @app.query(JOIN.partition(".")[2])
    def join(message: Message, context: Context) -> Message:
        description = _description(message)
        return _reply(message, join_of(settings_of(context).under(description.task), description))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        from fedcore.client.flower.training import (  # torch takes seconds, and a join needs none
            model_source_of,
            train_assignment,
        )

        welcome, assignment = _welcome_and_assignment(message)
        settings = settings_of(context)
        arrays = message.content.array_records.get(BLOBS, ArrayRecord())
        try:
            description = _description(message)
            settings = settings.under(description.task)
            source = model_source_of(welcome, description, settings)
            with node_folder(context, settings.state) as folder:
                submission, payloads = train_assignment(assignment, arrays, source, settings, NodeState(folder))
        except FedcoreError as error:
            failure = AssignmentFailure(
                round=assignment.round,
                message=str(error)[:MAX_REPORT],
                out_of_memory=isinstance(error, OutOfMemory),
            )
            return _reply(message, failure)
        return _reply(message, submission, payloads)

    return app


def _reply(message: Message, answer: Upward, payloads: ArrayRecord | None = None) -> Message:
    content = RecordDict({RECORD: ConfigRecord({MESSAGES: [request_to_bytes(answer)]})})
    if payloads is not None:
        content[BLOBS] = payloads
    return Message(content, reply_to=message)


def _record(message: Message) -> ConfigRecord:
    record = message.content.config_records.get(RECORD)
    if record is None:
        raise ProtocolError("a message without ours in it; run fedcore.server.flower's strategy in the ServerApp")
    return record


def _description(message: Message) -> RunDescription:
    data = _record(message).get(RUN)
    if not isinstance(data, bytes):
        raise ProtocolError("a message without the run's description; update the ServerApp")
    return description_from_bytes(data)


def _welcome_and_assignment(message: Message) -> tuple[Welcome, WireAssignment]:
    values = [response_from_bytes(data) for data in _messages(message)]
    match values:
        case [Welcome() as welcome, WireAssignment() as assignment]:
            return welcome, assignment
    raise ProtocolError(f"expected a welcome and an assignment, got {[type(value).__name__ for value in values]}")


def _messages(message: Message) -> list[bytes]:
    messages = _record(message).get(MESSAGES)
    return [data for data in messages if isinstance(data, bytes)] if isinstance(messages, list) else []
