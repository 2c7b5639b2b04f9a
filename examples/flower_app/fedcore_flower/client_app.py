"""A node's side: fedcore's device."""

from fedcore.client.flower.app import client_app

app = client_app()
