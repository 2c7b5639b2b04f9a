"""What the data plane moves, against the limits of this machine and against flwr."""
