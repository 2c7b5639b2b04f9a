"""One array each way: what the benchmark compares with."""
