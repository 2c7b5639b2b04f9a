"""Any strategy of ours as a Flower Strategy: it plans, verifies and folds; Flower transports the messages.

The run folder, the round machine and the engine are those of a coordinator (`fedcore.server.flower.round_driver`).
Flower decides which nodes are here and how messages travel.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from logging import INFO

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result, Strategy
from flwr.supercore import log

from fedcore.core.errors import ConfigError, ProtocolError, RunError
from fedcore.core.model.adapter import Tensors
from fedcore.protos.values import AssignmentFailure, UpdateSubmission, WireAssignment
from fedcore.server.flower.records import arrays_of, assignment_content, message_in, submission
from fedcore.server.flower.replies import arrivals
from fedcore.server.flower.roster import Roster
from fedcore.server.flower.round_driver import FlowerDriver

GONE = (  # errors of a node that say nothing about its device's arm
    ErrorCode.MESSAGE_UNAVAILABLE,
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
    ErrorCode.NODE_UNAVAILABLE,
    ErrorCode.CLIENT_APP_CRASHED,
)
_FIGURES = ("accepted", "devices", "weight", "bytes_up", "bytes_down", "duration_s")
_WHEN = ("before", "after")
PAUSE_S = 1.0  # between two looks for nodes while there are too few


class FedcoreStrategy(Strategy):
    """One run. Use `start`, which folds replies as they come; the separate steps are for loops of your own."""

    def __init__(self, driver: FlowerDriver, clock: Callable[[], float] = time.monotonic) -> None:
        """Use `driver`; the caller closes it."""
        self._driver = driver
        self._roster = Roster(driver)
        self._clock = clock
        self._open: dict[int, WireAssignment] = {}  # by node
        self._number = 0  # of the last round with assignments sent

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterator[Message]:
        """Yield the next round's assignments, one message for every node; waits for devices while there are too few.

        The engine has the global adapter, so `arrays` and `config` are ignored. Raises RunError if the run pauses:
        fewer devices than coordinator.min_devices joined in time, or too many rounds in a row were void.
        """
        driver = self._driver
        driver.skip_time()
        self._roster.refresh(grid)
        while not driver.pushed:
            self._check()
            time.sleep(PAUSE_S)
            driver.tick()
            self._roster.refresh(grid)
        self._number = driver.machine.round
        self._open = {self._roster.node(device): assignment for device, assignment in driver.pushed.items()}
        driver.pushed.clear()
        for node, assignment in self._open.items():
            content = assignment_content(assignment, driver.welcome(), driver.description, driver.run.blobs)
            yield Message(content, node, MessageType.TRAIN, ttl=assignment.deadline_s, group_id=str(assignment.round))

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Verify and fold every reply of the iterator, then close the round: the end of the iterator is its deadline.

        Returns the global adapter, None if the round was void, and the round's figures.
        """
        for reply in replies:
            self._take(reply.metadata.src_node_id, reply)
        return self._close_round()

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Return no messages: only the server measures the global adapter (`evaluate_fn`)."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Return None: no node evaluates."""
        return None

    def summary(self) -> None:
        """Log the run's strategy and folder."""
        run = self._driver.run
        log(INFO, "\t└──> fedcore: %s, run folder %s", run.config.strategy.name, run.folder.root)

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord | None = None,
        num_rounds: int | None = None,
        timeout: float | None = None,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run all rounds that are left and write the summary; replies are folded one by one, and none is kept.

        Rounds and deadline come from the configuration: raises ConfigError for other numbers. The first adapter is that
        of a coordinator, or that of the resumed run. Raises RunError if the run pauses.
        """
        driver = self._driver
        if num_rounds not in (None, driver.run.config.run.rounds) or initial_arrays or timeout is not None:
            raise ConfigError("rounds, deadline and first adapter follow from the configuration; leave them out")
        self.summary()
        result = Result()
        nothing = ConfigRecord()
        while not driver.over:
            messages = self.configure_train(0, result.arrays, nothing, grid)
            first = next(messages)
            number = self._number
            for node, reply in arrivals(grid, chain([first], messages), self._clock() + driver.left_s, self._clock):
                self._take(node, reply)
            arrays, metrics = self._close_round()
            if metrics is not None:
                result.train_metrics_clientapp[number] = metrics
            if arrays is not None:
                result.arrays = arrays
                measured = evaluate_fn(number, arrays) if evaluate_fn is not None else None
                if measured is not None:
                    result.evaluate_metrics_serverapp[number] = measured
        driver.finish()
        return result

    # --- replies ---

    def _take(self, node: int, reply: Message | None) -> None:
        device, assignment = self._roster.device(node), self._open.get(node)
        if device is None or assignment is None:
            return  # a reply of an earlier round, or of a node that joined under another name since
        if reply is None:
            self._driver.lost(device, "its work could not be sent")
        elif reply.has_error():
            self._take_error(device, assignment, reply)
        else:
            self._take_answer(device, assignment, reply)

    def _take_error(self, device: str, assignment: WireAssignment, reply: Message) -> None:
        reason = reply.error.reason or f"error {reply.error.code}"
        if reply.error.code in GONE:
            self._driver.lost(device, reason)
        else:
            self._driver.failed(device, AssignmentFailure(round=assignment.round, message=reason))

    def _take_answer(self, device: str, assignment: WireAssignment, reply: Message) -> None:
        try:
            answer = message_in(reply.content)
            match answer:
                case UpdateSubmission():
                    self._driver.take(device, submission(answer, reply.content, assignment, self._driver))
                case AssignmentFailure():
                    self._driver.failed(device, answer)
                case _:
                    raise ProtocolError(f"expected an update, got {type(answer).__name__}")
        except ProtocolError as error:
            self._driver.reject(device, assignment.round, str(error))

    # --- the end of a round ---

    def _close_round(self) -> tuple[ArrayRecord | None, MetricRecord | None]:
        self._driver.expire(self._number)
        self._check()
        self._open = {}
        record = self._driver.run.ledger.reports()[self._number]
        figures = {key.replace("_", "-"): record[key] for key in _FIGURES}
        rows = [row for row in self._driver.run.ledger.outcomes()[self._number] if row["loss_after"] is not None]
        if rows:
            figures |= {f"loss-{when}": sum(row[f"loss_{when}"] for row in rows) / len(rows) for when in _WHEN}
        arrays = None if record["void"] else arrays_of(self._tensors())
        return arrays, MetricRecord(figures)

    def _tensors(self) -> Tensors:
        if self._driver.engine is None:
            raise RunError("no device has joined yet")
        return self._driver.engine.model.tensors

    def _check(self) -> None:
        fault, refusal = self._driver.fault, self._roster.refusal
        if fault is not None:
            raise RunError(f"{fault}; a node was refused: {refusal}") if refusal else fault
