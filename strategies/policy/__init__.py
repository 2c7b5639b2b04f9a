"""The parts of a policy: feasible arms, choice, pace, weights, speed, and learning from a closed round."""
