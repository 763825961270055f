"""`python -m roundhouse_nemo` runs the engine."""

from roundhouse_engine import serve
from roundhouse_nemo.handler import Nemo

if __name__ == "__main__":
    serve(Nemo)
