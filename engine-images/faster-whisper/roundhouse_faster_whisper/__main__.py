"""`python -m roundhouse_faster_whisper` runs the engine."""

from roundhouse_engine import serve
from roundhouse_engine.memory import keep_what_is_freed
from roundhouse_faster_whisper.handler import FasterWhisper

if __name__ == "__main__":
    keep_what_is_freed()
    serve(FasterWhisper)
