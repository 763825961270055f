"""What a worker and its supervisor say to each other, one message at a time."""

import msgspec


class Up(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The worker takes connections."""


class Leaving(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The worker wants no more of clients, or of the cluster."""

    of_clients: bool


class Put(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """To be kept for so long, under this name."""

    name: str
    content: bytes
    seconds: int


class Ask(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """What is kept under the name; `take`: and is no longer then."""

    number: int
    name: str
    take: bool


Said = Up | Leaving | Put | Ask


class Answer(msgspec.Struct, frozen=True, array_like=True):
    """To the `Ask` of that number."""

    number: int
    found: bytes | None
