"""Our device as a Flower ClientApp: `app = client_app()`."""

from collections.abc import Callable

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from fedcore.client.flower.device import join_of
from fedcore.client.flower.settings import NodeSettings, node_settings
from fedcore.client.flower.state import NodeState, node_folder
from fedcore.core.errors import FedcoreError, ProtocolError
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
        return _reply(message, join_of(settings_of(context), description))

    @app.train()
    def train(message: Message, context: Context) -> Message:
        from fedcore.client.flower.work import carry_out, source_of  # torch takes seconds, and a join needs none

        welcome, assignment = _told(message)
        settings = settings_of(context)
        arrays = message.content.array_records.get(BLOBS, ArrayRecord())
        try:
            source = source_of(welcome, _description(message), settings)
            with node_folder(context, settings.state) as folder:
                submission, payloads = carry_out(assignment, arrays, source, settings, NodeState(folder))
        except FedcoreError as error:
            return _reply(message, AssignmentFailure(round=assignment.round, message=str(error)[:MAX_REPORT]))
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


def _told(message: Message) -> tuple[Welcome, WireAssignment]:
    told = [response_from_bytes(each) for each in _messages(message)]
    match told:
        case [Welcome() as welcome, WireAssignment() as assignment]:
            return welcome, assignment
    raise ProtocolError(f"expected a welcome and an assignment, got {[type(each).__name__ for each in told]}")


def _messages(message: Message) -> list[bytes]:
    messages = _record(message).get(MESSAGES)
    return [each for each in messages if isinstance(each, bytes)] if isinstance(messages, list) else []
