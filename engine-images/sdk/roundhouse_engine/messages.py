"""The messages of a conversation, checked: who says what, in texts and, for models that see, pictures."""

from typing import Any, Final

from roundhouse_engine.errors import EngineError, invalid
from roundhouse_engine.json_body import Fields
from roundhouse_engine.showing import shown

_ROLES: Final = ("system", "developer", "user", "assistant", "tool")
_MOST: Final = 10_000


def read_messages(fields: Fields, *, images: bool) -> list[dict[str, Any]]:
    """As the client sent them, but that contents of texts alone are joined into one."""
    messages = fields.items("messages")
    if not messages:
        raise invalid("messages is empty: send at least one.", param="messages", code="missing")
    if len(messages) > _MOST:
        raise invalid(f"messages must be at most {_MOST}, not {len(messages)}.", param="messages")
    return [_message(at, message, images=images) for at, message in enumerate(messages)]


def _message(at: int, message: object, *, images: bool) -> dict[str, Any]:
    where = f"messages[{at}]"
    if not isinstance(message, dict):
        raise _wrong(f"{where} must be an object with role and content.")
    message = {name: value for name, value in message.items() if value is not None or name == "content"}
    role = message.get("role")
    if role not in _ROLES:
        raise _wrong(f"{where}.role must be one of {', '.join(_ROLES)}, not {shown(role)}.")
    for name in ("name", "tool_call_id"):
        if not isinstance(message.get(name, ""), str):
            raise _wrong(f"{where}.{name} must be a text, not {shown(message[name])}.")
    if role == "tool" and "tool_call_id" not in message:
        param = f"{where}.tool_call_id"
        told = f"{param} is missing: the id of the assistant's call whose result this is."
        raise invalid(told, param=param, code="missing")
    _check_calls(where, message.get("tool_calls", []))
    content = message.get("content")
    if content is None:
        # What an assistant does instead of speaking stands beside the content.
        if role != "assistant" or not message.get("tool_calls"):
            found = "must not be null" if "content" in message else "is missing"
            raise _wrong(f"{where}.content {found}.")
        return message
    if isinstance(content, str):
        return message
    if not isinstance(content, list) or not content:
        raise _wrong(f"{where}.content must be a text or a list of parts.")
    texts = [_part(f"{where}.content[{number}]", part, images=images) for number, part in enumerate(content)]
    if any(text is None for text in texts):
        return message
    return message | {"content": "\n".join(text for text in texts if text is not None)}


def _check_calls(where: str, calls: object) -> None:
    if not isinstance(calls, list):
        raise _wrong(f"{where}.tool_calls must be a list, not {shown(calls)}.")
    for number, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if (
            not isinstance(function, dict)
            or not isinstance(function.get("name"), str)
            or not isinstance(function.get("arguments"), str)
        ):
            raise _wrong(
                f"{where}.tool_calls[{number}] must be an object with a function, which has a name and "
                "arguments, both texts."
            )


def _part(where: str, part: object, *, images: bool) -> str | None:
    """The part's text; None for a picture."""
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(part, dict) and kind in ("text", "refusal"):
        text = part.get(kind)
        if not isinstance(text, str):
            raise _wrong(f"{where}.{kind} must be a text.")
        return text
    if isinstance(part, dict) and kind == "image_url" and images:
        image = part.get("image_url")
        if not isinstance(image, dict) or not isinstance(image.get("url"), str):
            raise _wrong(f"{where}.image_url must be an object with url.")
        return None
    if kind == "image_url":
        raise _wrong(f"{where} is a picture, and this model sees none.", code="unsupported_value")
    raise _wrong(f"{where}.type must be text, not {shown(kind)}.", code="unsupported_value")


def _wrong(message: str, code: str = "invalid_value") -> EngineError:
    return invalid(message, param="messages", code=code)
