"""Settings for all tests."""

import os

# Before NumPy is imported. The matrices here are small: a second thread gains nothing,
# and where another program has the other core, waiting for it costs twentyfold.
for library in ("OPENBLAS", "MKL", "OMP"):
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")
