"""What holds for all unit tests."""

from hypothesis import settings

# A property test is bounded by its examples: how long one takes says how loaded the machine is.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
