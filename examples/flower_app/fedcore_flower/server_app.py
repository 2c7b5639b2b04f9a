"""The server's side: strategy, aggregation, run folder, and accuracy on rows that are held back."""

from fedcore.client.flower.measure import held_back
from fedcore.server.flower.app import server_app

app = server_app(measuring=held_back)
