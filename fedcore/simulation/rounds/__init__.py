"""Rounds in virtual time: the driver, the dispatch of assignments, evaluation between rounds."""
