"""What a round computes: dispatching its plan, verifying and summing up what comes back, making the next global model.

For one worker thread at a time; nothing here knows of streams. An edge sums up with the same modules as the root.
"""
