"""Virtual devices: profiles and rows, online times, durations, faults."""
