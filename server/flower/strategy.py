"""Any strategy of ours as a Flower Strategy: it plans, Flower carries, every update is verified and folded on arrival.

The run folder, the round machine and the engine are a coordinator's own (`fedcore.server.flower.round_driver`). Flower
decides which nodes are here and how messages travel.
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
from fedcore.server.flower.records import arrays_of, said, submission, work_content
from fedcore.server.flower.replies import arrivals
from fedcore.server.flower.roster import Roster
from fedcore.server.flower.round_driver import FlowerDriver

GONE = (  # a node with such an error says nothing about its arm
    ErrorCode.MESSAGE_UNAVAILABLE,
    ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
    ErrorCode.NODE_UNAVAILABLE,
    ErrorCode.CLIENT_APP_CRASHED,
)
_FIGURES = ("accepted", "devices", "weight", "bytes_up", "bytes_down", "duration_s")
_WHEN = ("before", "after")
PAUSE_S = 1.0  # between two looks for nodes while too few are here


class FedcoreStrategy(Strategy):
    """One run. Use `start`, which folds replies as they come; the separate steps serve loops of your own."""

    def __init__(self, driver: FlowerDriver, clock: Callable[[], float] = time.monotonic) -> None:
        """Use `driver`, which stays the caller's to close."""
        self._driver = driver
        self._roster = Roster(driver)
        self._clock = clock
        self._open: dict[int, WireAssignment] = {}  # by node
        self._number = 0  # of the round whose work was last sent

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterator[Message]:
        """Yield the next round's work, another message for every node; waits for devices where too few are here.

        The engine holds the global adapter, so `arrays` and `config` are not looked at. Raises RunError where the run
        pauses: fewer devices than coordinator.min_devices came in time, or too many rounds in a row were void.
        """
        driver = self._driver
        driver.hold()
        self._roster.refresh(grid)
        while not driver.pushed:
            self._check()
            time.sleep(PAUSE_S)
            driver.tick()
            self._roster.refresh(grid)
        self._number = driver.machine.round
        self._open = {self._roster.node(device): work for device, work in driver.pushed.items()}
        driver.pushed.clear()
        for node, work in self._open.items():
            content = work_content(work, driver.welcome(), driver.description, driver.run.blobs)
            yield Message(content, node, MessageType.TRAIN, ttl=work.deadline_s, group_id=str(work.round))

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Verify and fold every reply as the iterator gives it, then close the round; its end is the deadline.

        Returns the global adapter, None where the round was void, and the round's figures.
        """
        for reply in replies:
            self._take(reply.metadata.src_node_id, reply)
        return self._closed()

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Ask nobody: the global adapter is measured at the server (`evaluate_fn`), or out of the run folder."""
        return []

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Nobody was asked."""
        return None

    def summary(self) -> None:
        """Say where the run lies."""
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
        """Run every round that is left and write the summary; replies are folded one by one, none is kept.

        Rounds and deadline come from the configuration: raises ConfigError for other numbers. The adapter begins as
        on a coordinator, or where a resumed run stands. Raises RunError where the run pauses.
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
            arrays, metrics = self._closed()
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
        device, work = self._roster.device(node), self._open.get(node)
        if device is None or work is None:
            return  # of an earlier round, or of a node that joined under another name since
        if reply is None:
            self._driver.lost(device, "its work could not be sent")
        elif reply.has_error():
            self._failed(device, work, reply)
        else:
            self._answered(device, work, reply)

    def _failed(self, device: str, work: WireAssignment, reply: Message) -> None:
        reason = reply.error.reason or f"error {reply.error.code}"
        if reply.error.code in GONE:
            self._driver.lost(device, reason)
        else:
            self._driver.failed(device, AssignmentFailure(round=work.round, message=reason))

    def _answered(self, device: str, work: WireAssignment, reply: Message) -> None:
        try:
            answer = said(reply.content)
            match answer:
                case UpdateSubmission():
                    self._driver.take(device, submission(answer, reply.content, work, self._driver))
                case AssignmentFailure():
                    self._driver.failed(device, answer)
                case _:
                    raise ProtocolError(f"expected an update, got {type(answer).__name__}")
        except ProtocolError as error:
            self._driver.rejected(device, work.round, str(error))

    # --- the end of a round ---

    def _closed(self) -> tuple[ArrayRecord | None, MetricRecord | None]:
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
