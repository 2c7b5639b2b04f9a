"""The work inside a virtual device's assignment: real training or a loss curve, and the traffic around it."""
