"""An accelerator at work: steps by precision, memory, a fleet."""
