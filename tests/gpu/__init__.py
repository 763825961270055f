"""Engines on a GPU: `make gpu`. Without one they fail; nothing else runs them.

ROUNDHOUSE_TEST_DEVICE=cpu runs what of them needs none, to work on the tests themselves.
"""
