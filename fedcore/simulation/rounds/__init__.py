"""Rounds in virtual time: the driver, what is dispatched at one moment, evaluation between rounds."""
