"""MusicGen as a Roundhouse engine: music of a description.

What reads a repository and loads a model of transformers is `roundhouse_transformers`. torch takes seconds to
import, so only what loads a model imports it: the engine listens before that, and says that it is loading.
"""

import roundhouse_transformers  # noqa: F401 - keeps the libraries offline, and their threads from spinning
