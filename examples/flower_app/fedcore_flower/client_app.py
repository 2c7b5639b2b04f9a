"""A node's side: fedcore's device."""

from client.flower.app import client_app

app = client_app()
