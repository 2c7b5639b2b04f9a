"""A device, an evaluator and their data: the shell around training.

It carries out assignments and never imports strategies or the server.
"""
