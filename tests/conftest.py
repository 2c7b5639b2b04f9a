"""Settings of all tests: one torch thread, for spinning threads on shared cores cost several times the work."""

import os

from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")

# Seeds are fixed, and a busy machine is no failure: the time limit is pytest's.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")
