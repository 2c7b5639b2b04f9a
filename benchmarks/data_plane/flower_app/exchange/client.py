"""The ClientApp: reads the array, answers with another one of the same size; every node's values differ."""

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer without training."""
    (array,) = message.content.array_records["arrays"].to_numpy_ndarrays()
    moved = array + np.float32(1e-6) * np.float32(context.node_id % 1000 + 1)
    content = RecordDict({"arrays": ArrayRecord([moved]), "metrics": MetricRecord({"num-examples": 1})})
    return Message(content=content, reply_to=message)
