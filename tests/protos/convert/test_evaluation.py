import pytest

from fedcore.core.data.figures import Metrics
from fedcore.core.errors import ProtocolError
from fedcore.protos.convert.evaluation import result_from_pb, result_to_pb, task_from_pb
from fedcore.protos.v1 import evaluation_pb2 as pb
from fedcore.protos.values import EvaluatorResult


def test_a_task_of_no_known_kind_is_refused() -> None:
    with pytest.raises(ProtocolError, match="evaluator task 4 is of an unknown kind; update the client"):
        task_from_pb(pb.EvaluatorTask(id=4))


def test_nothing_without_a_word_is_an_error_all_the_same() -> None:
    message = result_to_pb(EvaluatorResult(id=1, outcome=None))
    assert message.error == "no result" and message.WhichOneof("kind") is None
    assert result_from_pb(message) == EvaluatorResult(id=1, outcome=None, error="no result")


def test_no_auc_differs_from_an_auc_of_zero() -> None:
    without = pb.EvaluatorResult(id=1, metrics=pb.Metrics(accuracy=0.5, rows=2))
    with_zero = pb.EvaluatorResult(id=1, metrics=pb.Metrics(accuracy=0.5, auc=0.0, rows=2))
    assert "auc" not in result_from_pb(without).outcome.figures  # type: ignore[union-attr]
    assert result_from_pb(with_zero).outcome.figures["auc"] == 0.0  # type: ignore[union-attr]


def test_figures_of_classification_are_in_the_fields_that_an_earlier_version_reads_and_writes() -> None:
    figures = {"accuracy": 0.75, "auc": None, "macro_f1": 0.5, "loss": 0.25}
    message = result_to_pb(EvaluatorResult(id=1, outcome=Metrics(figures=figures, rows=2)))
    assert (message.metrics.accuracy, message.metrics.macro_f1, message.metrics.loss) == (0.75, 0.5, 0.25)
    assert not message.metrics.HasField("auc")
    message.metrics.ClearField("figures")
    del figures["auc"]
    assert result_from_pb(message).outcome == Metrics(figures=figures, rows=2)


def test_figures_of_another_task_travel_by_name() -> None:
    metrics = Metrics(figures={"rmse": 0.5}, rows=2)
    assert result_from_pb(result_to_pb(EvaluatorResult(id=1, outcome=metrics))).outcome == metrics
