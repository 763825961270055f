"""What a request for text asks for: OpenAI's fields, checked against what the handler can do.

Fields that it does not know are left alone, as OpenAI leaves them; a value that it would have to ignore or
guess at is refused with the field's name.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from roundhouse_engine.errors import EngineError, invalid
from roundhouse_engine.json_body import Fields, is_tokens
from roundhouse_engine.messages import read_messages
from roundhouse_engine.showing import shown
from roundhouse_engine.text import Chat, TextOptions
from roundhouse_engine.text_events import TextWork
from roundhouse_engine.tools import read_tools

_MOST_TOKENS: Final = 1 << 24
_LEAST_TEMPERATURE: Final = 1e-5
_STOPS: Final = 16
_STOP_LENGTH: Final = 1000
_COMPLETION_TOKENS: Final = 16
"""OpenAI's, where a completion's request says nothing."""


@dataclass(frozen=True, slots=True)
class WritingAsk:
    """A request for text, checked. `told` is what the runner reads; `usage`: a stream counts tokens."""

    model: str
    work: TextWork
    told: Mapping[str, Any]
    stream: bool
    usage: bool


def read_chat(fields: Fields, handler: type[Chat], served: tuple[str, ...]) -> WritingAsk:
    model = fields.model(served)
    fields.refuse("functions", [], why="'functions' is OpenAI's old name: send 'tools'.")
    fields.refuse("function_call", "none", why="'function_call' is OpenAI's old name: send 'tool_choice'.")
    fields.refuse("modalities", ["text"], why="This engine answers in text alone.")
    fields.refuse("audio", why="This engine answers in text alone; leave out audio.")
    fields.refuse("web_search_options", why="This engine searches nothing; leave out web_search_options.")
    fields.refuse(
        "verbosity", "medium", why="Say in the prompt how long answers should be: leave out verbosity."
    )
    if "reasoning_effort" not in handler.extensions:
        why = "This engine has no levels of reasoning; leave out reasoning_effort."
        fields.refuse("reasoning_effort", why=why)
    fields.refuse("logprobs", False, why="This engine tells no log probabilities; leave out logprobs.")
    fields.refuse("top_logprobs", 0, why="This engine tells no log probabilities; leave out top_logprobs.")
    tools = read_tools(fields)
    if tools["tools"] and not handler.tools:
        raise _cannot("tools", f"The model {model!r} calls no tools here. Send the request without them.")
    told = {"messages": read_messages(fields, images=handler.images), **tools}
    limit = fields.integer("max_completion_tokens", 1, _MOST_TOKENS)
    limit = limit or fields.integer("max_tokens", 1, _MOST_TOKENS)
    return _ask(fields, handler, model, told, limit)


def read_completion(fields: Fields, handler: type[Chat], served: tuple[str, ...]) -> WritingAsk:
    model = fields.model(served)
    fields.refuse("best_of", 1, why="best_of must be 1: send the request as often as you want answers.")
    fields.refuse("echo", False, why="This engine does not repeat the prompt; leave out echo.")
    fields.refuse("suffix", "", why="This engine writes what follows the prompt; leave out suffix.")
    if fields.values.get("logprobs") is not False:  # 0, here, asks for those of the tokens that are chosen
        fields.refuse("logprobs", why="This engine tells no log probabilities; leave out logprobs.")
    told = {"prompt": _prompt(fields)}
    limit = fields.integer("max_tokens", 1, _MOST_TOKENS) or _COMPLETION_TOKENS
    return _ask(fields, handler, model, told, limit)


def _ask(
    fields: Fields,
    handler: type[Chat],
    model: str,
    told: dict[str, Any],
    max_tokens: int | None,
) -> WritingAsk:
    stream = fields.flag("stream")
    if fields.given("stream_options") and not stream:
        raise invalid("stream_options needs stream: true.", param="stream_options")
    fields.refuse("n", 1, why="n must be 1: send the request as often as you want answers.")
    fields.refuse("logit_bias", {}, why="This engine weighs no tokens; leave out logit_bias.")
    options = TextOptions(
        max_tokens=max_tokens,
        temperature=_temperature(fields),
        top_p=fields.number("top_p", 0, 1),
        seed=fields.integer("seed", -(1 << 63), (1 << 63) - 1),
        stop=_stop(fields),
        frequency_penalty=_penalty(fields, "frequency_penalty", handler),
        presence_penalty=_penalty(fields, "presence_penalty", handler),
        response_format=_response_format(fields, handler, model),
        extensions={name: fields.values[name] for name in handler.extensions if fields.given(name)},
    )
    usage = fields.object("stream_options").flag("include_usage")
    work = TextWork.CHAT if "messages" in told else TextWork.COMPLETE
    return WritingAsk(model, work, told | {"options": asdict(options)}, stream, usage)


def _temperature(fields: Fields) -> float | None:
    """Handlers divide by it: by what is nearly nothing, the likeliest of all tokens becomes no number."""
    value = fields.number("temperature", 0, 2)
    return 0.0 if value is not None and value < _LEAST_TEMPERATURE else value


def _prompt(fields: Fields) -> str | list[int]:
    prompt = fields.values.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1 and not isinstance(prompt[0], int):
        prompt = prompt[0]
    if isinstance(prompt, str) and prompt:
        return prompt
    if is_tokens(prompt):
        return prompt
    raise invalid(
        "prompt must be one text, or the ids of one text's tokens, and not empty. Send several prompts in "
        "several requests.",
        param="prompt",
    )


def _stop(fields: Fields) -> tuple[str, ...]:
    value = fields.values.get("stop")
    stops = [] if value is None else [value] if isinstance(value, str) else value
    if (
        not isinstance(stops, list)
        or len(stops) > _STOPS
        or not all(isinstance(each, str) and 0 < len(each) <= _STOP_LENGTH for each in stops)
    ):
        raise invalid(
            f"stop must be a text or a list of at most {_STOPS} texts, none empty "
            f"or longer than {_STOP_LENGTH}.",
            param="stop",
        )
    return tuple(stops)


def _penalty(fields: Fields, name: str, handler: type[Chat]) -> float | None:
    value = fields.number(name, -2, 2)
    if value and not handler.penalties:
        raise _cannot(name, f"This engine knows no penalties; leave out {name}.")
    return value


def _response_format(fields: Fields, handler: type[Chat], model: str) -> Mapping[str, Any] | None:
    wanted = fields.object("response_format")
    kind = wanted.text("type") or "text"
    if kind == "text":
        return None
    if kind not in ("json_object", "json_schema"):
        message = f"response_format.type must be text, json_object or json_schema, not {shown(kind)}."
        raise invalid(message, param="response_format", code="unsupported_value")
    if kind not in handler.response_formats:
        raise _cannot(
            "response_format", f"The model {model!r} is not held to {kind} here. Ask for it in the prompt."
        )
    if kind == "json_schema" and not isinstance(wanted.object("json_schema").values.get("schema"), dict):
        raise invalid("response_format.json_schema.schema must be a JSON schema.", param="response_format")
    return wanted.values


def _cannot(param: str, message: str) -> EngineError:
    return invalid(message, param=param, code="unsupported_value")
