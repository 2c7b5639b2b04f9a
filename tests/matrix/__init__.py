"""The device side under other interpreters and library versions: `python -m tests.matrix`, apart from `make test`."""
