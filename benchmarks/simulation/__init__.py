"""What simulating a client costs: fedcore's simulator and three others on the same tasks, with the same maths."""
