"""NVIDIA NeMo's speech models as a Roundhouse engine: Parakeet's kind, by CTC, RNNT and TDT, and Canary.

NeMo takes half a minute to import, so only what loads a model imports it: the engine listens before that,
and says that it is loading.
"""

import os

# Read by the libraries when they are imported. A model is a file, and what is missing in it is an error.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Threads that wait for each other by turning on the spot take the cores that others want.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# numba, which the library imports, compiles into folders of its own packages, which nobody may write to.
os.environ.setdefault("NUMBA_CACHE_DIR", "/tmp/numba")  # noqa: S108 - numba keeps its users apart
