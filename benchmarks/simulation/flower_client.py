"""A client on Flower: imported by its workers, so that each keeps one model warm over all the clients it plays."""

import os
from functools import cache
from pathlib import Path

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from benchmarks.simulation.learners import make_learner
from benchmarks.simulation.task import Case, Learner, read_case, train_client

FOLDER = "FEDCORE_SIMULATION_CASE"

app = ClientApp()


@cache
def warm() -> tuple[Case, Learner]:
    """The worker's one model, with one thread: there is a worker for every core."""
    torch.set_num_threads(1)
    folder = Path(os.environ[FOLDER])
    return read_case(folder), make_learner(folder)


@app.train()
def train(message: Message, context: Context) -> Message:
    """Train one client from the parameters that came."""
    case, learner = warm()
    parameters = learner.trainable()
    with torch.no_grad():
        for name, value in message.content.array_records["arrays"].to_torch_state_dict().items():
            parameters[name].copy_(value)
    client = int(context.node_config["partition-id"])
    train_client(learner, case.recipe, client)
    arrays = ArrayRecord({name: parameter.detach() for name, parameter in parameters.items()})
    metrics = MetricRecord({"num-examples": len(learner.rows(client)[0])})
    return Message(content=RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=message)
