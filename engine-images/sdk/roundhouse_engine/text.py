"""The protocols that engines of texts implement, and the plain data that they are given and give back.

HTTP, OpenAI's and Cohere's shapes, batches, stop sequences, cancellation and counting are the SDK's. Standard
library alone, so that a handler can be read and tested without the server.
"""

from abc import abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, ClassVar

from roundhouse_engine.handler import Cancellation, CancelStep, Handler

Text = str | tuple[int, ...]
"""A text, or the ids of its tokens where the client has made them itself."""


class FinishReason(StrEnum):
    """Why a model stopped writing, as OpenAI spells it."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


@dataclass(frozen=True, slots=True)
class TextOptions:
    """What the client asked for, checked. None: it said nothing, and the model's own habit holds."""

    max_tokens: int | None = None
    temperature: float | None = None
    """0 for the most likely token each time."""
    top_p: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    """The SDK ends the text before the first of them; a handler that heeds them too saves a few tokens."""
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    response_format: Mapping[str, Any] | None = None
    """`{"type": "json_object"}` or OpenAI's `json_schema`, of those in `Chat.response_formats`."""
    extensions: Mapping[str, Any] = field(default_factory=dict)
    """Fields beyond OpenAI's, of those in `Chat.extensions`; unchecked."""

    @property
    def schema(self) -> Mapping[str, Any] | None:
        """The JSON schema that `response_format` holds the answer to; None: it is any text."""
        if self.response_format is None:
            return None
        if self.response_format["type"] == "json_object":
            return {"type": "object"}
        schema: Mapping[str, Any] = self.response_format["json_schema"]["schema"]
        return schema


@dataclass(frozen=True, slots=True)
class Conversation:
    """OpenAI's messages and tools. Checked are roles, contents, and that tools are functions with names."""

    messages: tuple[Mapping[str, Any], ...]
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str | None = None
    """`none`, `auto` or `required`; a function that the client names is the only tool then, and required."""
    parallel_tool_calls: bool | None = None


@dataclass(frozen=True, slots=True)
class Prompted:
    """The model has read the prompt: so many tokens, of which `cached` were known from another request."""

    tokens: int
    cached: int = 0


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool, or the next part of its arguments; `id` and `name` stand in the first part alone."""

    index: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Piece:
    """What the model wrote next: usually of one token."""

    text: str = ""
    tokens: int = 1
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of what the model wrote; `tokens` where it counted better than its pieces did."""

    reason: FinishReason = FinishReason.STOP
    tokens: int | None = None


Writing = Iterable[Prompted | Piece | Finish]
"""`Prompted` first, `Finish` last. Yield often: between two pieces a handler that is closed ends."""


class Chat(Handler):
    """Writes the next message of a conversation, and where it can, continues texts."""

    cancel_step: ClassVar[CancelStep] = CancelStep.TOKEN
    completions: ClassVar[bool] = False
    """Whether it continues texts without a conversation, too: `complete`."""
    tools: ClassVar[bool] = False
    response_formats: ClassVar[frozenset[str]] = frozenset()
    """Of `json_object` and `json_schema` those that it holds the model to."""
    images: ClassVar[bool] = False
    penalties: ClassVar[bool] = False
    """Whether it heeds `frequency_penalty` and `presence_penalty`."""
    extensions: ClassVar[frozenset[str]] = frozenset()
    """Names of fields beyond OpenAI's that it understands."""

    @abstractmethod
    def chat(self, conversation: Conversation, options: TextOptions, cancellation: Cancellation) -> Writing:
        """The next message. A prompt that is too long: `raise too_long(...)`."""

    def complete(self, prompt: Text, options: TextOptions, cancellation: Cancellation) -> Writing:
        """What follows the prompt. Called only where `completions` is true."""
        raise NotImplementedError


class Batched(Handler):
    """Computes many texts at once faster than one after the other: those of several requests together."""

    cancel_step: ClassVar[CancelStep] = CancelStep.BATCH
    capacity: ClassVar[int] = 64
    """Requests whose texts may wait and be computed together."""
    batch_items: int = 64
    batch_tokens: int = 16_384
    """One call gets no more than these, unless one text alone is longer; less after memory was short."""

    @abstractmethod
    def count_tokens(self, text: str) -> int:
        """How many the model makes of the text; what is computed and told to the client is counted by it."""

    def limit_tokens(self) -> int | None:
        """The longest text that the loaded model takes; None: any."""
        return None


class Embedding(Batched):
    """Turns texts into vectors."""

    token_ids: ClassVar[bool] = False
    """Whether it takes texts as ids of tokens."""
    shortened: ClassVar[bool] = False
    """Whether a vector's first numbers, normalised, are one as well (Matryoshka): `dimensions`."""
    vector_length: int | None = None
    """Of all vectors of the model; known from the first on."""

    @abstractmethod
    def embed(self, texts: Sequence[Text], cancellation: Cancellation) -> Collection[Collection[float]]:
        """A vector for each text, in their order; numpy's arrays are welcome."""


class Rerank(Batched):
    """Says how well documents answer a query."""

    @abstractmethod
    def score(self, pairs: Sequence[tuple[str, str]], cancellation: Cancellation) -> Collection[float]:
        """For each query and document a number from 0 to 1, higher for a better answer."""
