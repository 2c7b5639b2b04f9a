"""The parts of a policy: feasible arms, choice, pace, weights, speed, what a closed round teaches."""
