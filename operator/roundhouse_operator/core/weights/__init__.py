"""Weights: how they come to a variant's pods, what of that is there, and what is to be done about it.

`key` names them, `delivery` chooses the way, `state` is what is seen of a cache, `supply` decides. The
objects themselves are built in `desired.weights` and `desired.cache`.
"""
