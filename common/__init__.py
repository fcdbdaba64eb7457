"""The code that the notebooks teach and use."""

import os

# An idle thread of NumPy's BLAS spins for about a tenth of a second before it sleeps, and takes the core from the fast
# layers' threads meanwhile. 2^20 cycles instead of 2^26; it has to be said before NumPy is loaded.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "20")
