"""Known-answer tests and probes of claimed features: what is asked of a new pod, and what its answers prove.

All of it is pure; `roundhouse_operator.verifier` asks.
"""
