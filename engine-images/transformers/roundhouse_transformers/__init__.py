"""Models of transformers as a Roundhouse engine: chat, embeddings, reranking and transcriptions.

torch and transformers take seconds to import, so only what loads a model imports them: the engine listens
before that, and says that it is loading.
"""

import os

# Read by the libraries when they are imported. A model is a directory, and what is missing in it is an error.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
# Threads that wait for each other by turning on the spot take the cores that others want.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
