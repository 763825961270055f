"""What the head of a request says, read once for all requests on a connection that have the same."""

from typing import Final

from roundhouse_api.enums import RouteName
from roundhouse_api.keys import ApiKey
from roundhouse_gateway.errors import Headers
from roundhouse_gateway.exchange import sent_id
from roundhouse_gateway.guard import presented
from roundhouse_gateway.text.answer_head import OF_LENGTH

PATHS: Final = {
    b"/v1/chat/completions": RouteName.CHAT,
    b"/v1/completions": RouteName.COMPLETIONS,
    b"/v1/embeddings": RouteName.EMBEDDINGS,
}


class Asking:
    """`key` is what `key_text` was found to be; `request_id` is empty where the client sent none."""

    __slots__ = ("headers", "key", "key_text", "path", "raw_path", "request_id", "route")

    def __init__(self, path: bytes, headers: Headers) -> None:
        self.path = path.decode()
        self.raw_path = path
        self.route = PATHS[path]
        self.headers = headers
        self.key_text = presented(headers)
        self.request_id = sent_id(headers)
        self.key: ApiKey | None = None

    def with_length(self, length: int) -> "Asking":
        """The same before a body of so many bytes."""
        headers = [each if each[0] != OF_LENGTH else (OF_LENGTH, b"%d" % length) for each in self.headers]
        return Asking(self.raw_path, headers)
