"""What a client is told of a JSON body that is none, or asks for too much."""

from roundhouse_gateway.errors import GatewayError, InvalidRequestError


class MalformedJsonError(InvalidRequestError):
    code = "malformed_json"

    def __init__(self, problem: str) -> None:
        super().__init__(f"The body is not a JSON object: {problem}")


class TooManyItemsError(InvalidRequestError):
    code = "too_many_items"

    def __init__(self, param: str, items: int, limit: int) -> None:
        super().__init__(
            f"`{param}` has {items} items; at most {limit} are taken in one request. Send several.",
            param=param,
        )


class UnknownTextModelError(GatewayError):
    """Where `model` is nobody's name: with the words of the audio routes, and the status that OpenAI has."""

    status = 404
    type = "invalid_request_error"
    code = "model_not_found"

    def __init__(self, message: str) -> None:
        super().__init__(message, param="model")
