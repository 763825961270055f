"""`python -m roundhouse_pocketsphinx` runs the engine."""

from roundhouse_engine import serve
from roundhouse_pocketsphinx.handler import PocketSphinx

if __name__ == "__main__":
    serve(PocketSphinx)
