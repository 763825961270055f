"""`python -m roundhouse_nemo` runs the engine."""

from roundhouse_engine import serve
from roundhouse_engine.memory import share_one_heap
from roundhouse_nemo.handler import Nemo

if __name__ == "__main__":
    share_one_heap()
    serve(Nemo)
