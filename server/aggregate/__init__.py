"""What a round computes: it dispatches the plan, verifies and sums up updates, and makes the next global model.

One worker thread at a time uses these modules. None of them knows of streams. An edge sums up with the same modules as
the root.
"""
