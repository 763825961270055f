"""Whisper by faster-whisper and CTranslate2 as a Roundhouse engine."""

import os

# CTranslate2's threads wait for each other by turning on the spot, which on cores that others want takes
# three times the processor and longer by the clock. OpenMP reads this once, when its library is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
