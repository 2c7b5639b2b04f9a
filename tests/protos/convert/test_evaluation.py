import pytest

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
    assert result_from_pb(without).outcome.auc is None  # type: ignore[union-attr]
    assert result_from_pb(with_zero).outcome.auc == 0.0  # type: ignore[union-attr]
