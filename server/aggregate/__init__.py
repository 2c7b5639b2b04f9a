"""From uploads to a new global model: verify, fold, finish, and what devices fetch of it.

Its engine works on one worker thread and knows no session.
"""
