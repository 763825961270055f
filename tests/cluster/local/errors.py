"""The one error that the local cluster raises for something a person can act on."""


class ClusterError(Exception):
    """A step that could not be done. The message says which, why and what to do."""
