"""What a process knows of itself and its machine: identity, health, a lost parent, interrupts, free ports."""
