"""`python -m roundhouse_musicgen`."""

from roundhouse_engine import serve
from roundhouse_musicgen.handler import MusicGen

if __name__ == "__main__":
    serve(MusicGen)
