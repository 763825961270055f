"""Writes: a conversation by the model's own template, or a text that goes on, token by token.

The library's `generate` knows every kind of model and its cache. It runs in a thread of its own, tells each
token, and asks after each whether it should go on; so it ends within one when the client leaves.
"""

import threading
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from transformers import LogitsProcessorList, StoppingCriteriaList

from roundhouse_engine import Cancellation, Conversation, Finish, FinishReason, Piece, Prompted, TextOptions
from roundhouse_engine.errors import invalid
from roundhouse_engine.text import Text
from roundhouse_engine.torch_memory import vram_bytes
from roundhouse_transformers.bounds import check_length
from roundhouse_transformers.calls import told_calls
from roundhouse_transformers.experts import choose_by_number_of_tokens
from roundhouse_transformers.families import (
    Family,
    family_of,
    grammar_of_calls,
    grammar_of_strict_calls,
    is_strict,
)
from roundhouse_transformers.grammar import Grammars, Held, json_grammar
from roundhouse_transformers.loading import load
from roundhouse_transformers.pictures import has_pictures, in_parts, without_pictures
from roundhouse_transformers.prompts import Looks, part_of
from roundhouse_transformers.repository import Repository
from roundhouse_transformers.sampling import Draw, chances
from roundhouse_transformers.seeing import Sight, kind_of, sees
from roundhouse_transformers.settings import Settings
from roundhouse_transformers.spelling import Spelling
from roundhouse_transformers.strictly import HeldCalls
from roundhouse_transformers.telling import Telling
from roundhouse_transformers.template import Template

_CONTEXT_TOKENS: Final = 8192
"""Of one request, where nothing says less: a cache of all that a large model can take fills the memory."""

_BEFORE: Final = 8
"""Tokens that show how a text goes on: more than a character has bytes."""

Written = Generator[Prompted | Piece | Finish]


@dataclass(frozen=True, slots=True)
class Prompt:
    tokens: list[int]
    param: str
    """What of the request it is made of."""
    held: Held | HeldCalls | None = None
    marks: Mapping[int, str] = field(default_factory=dict)
    """Tokens that are told as these texts, where others of their kind are left out."""
    seen: Mapping[str, Any] = field(default_factory=dict)
    """What else the model is given, by its names for it: pictures."""
    goes_on: Sequence[int] = ()
    """The tokens that the answer's text goes on from; none: it begins a text of its own."""


class Writer:
    """Several threads may write at once."""

    def __init__(self, repository: Repository, settings: Settings) -> None:
        self._name = repository.name
        self._loaded = load(repository, settings, kind_of(repository))
        if self._loaded.device != "cpu":
            choose_by_number_of_tokens(self._loaded.model)
        self._sight = Sight(repository, self._loaded) if sees(repository) else None
        limit = self._loaded.limit_tokens or _CONTEXT_TOKENS
        self._limit = limit if settings.context_tokens else min(limit, _CONTEXT_TOKENS)
        self._habits = self._loaded.model.generation_config.to_dict()
        self._words = int(self._loaded.model.config.get_text_config().vocab_size)
        self._ends = self._ending()
        self._grammars = Grammars(self._loaded.tokenizer, self._words, self._ends)
        template = self._loaded.tokenizer.chat_template
        if self._sight is not None and not template:
            template = self._loaded.tokenizer.chat_template = self._sight.template
        self._template = Template(self._loaded.tokenizer)
        if self._loaded.tokenizer.chat_template:
            self._template.check(self._name)
        # A repository may have several, one of them for tools.
        said = " ".join(template.values()) if isinstance(template, dict) else template or ""
        self._family = family_of(said)
        self._wants_parts = self._sight is not None and "is string" not in said
        known = self._loaded.tokenizer.get_added_vocab()
        self._marks = {
            mark: known[mark] for mark in (self._family.marks if self._family else ()) if mark in known
        }
        self._tokenizing = threading.Lock()
        by_the_book = self._sight is None and not repository.remote_code
        self._part = part_of(self._loaded.model) if by_the_book else None
        self._looks = Looks(self._loaded.model)

    def _ending(self) -> frozenset[int]:
        """Tokens. Of many fine-tunes the tokenizer alone names the end of a turn."""
        said = self._habits.get("eos_token_id")
        ends = [*(said if isinstance(said, list) else [said]), self._loaded.tokenizer.eos_token_id]
        return frozenset(end for end in ends if isinstance(end, int) and 0 <= end < self._words)

    def vram_bytes(self) -> int | None:
        return vram_bytes(self._loaded.model, self._loaded.device)

    def chat(self, conversation: Conversation, options: TextOptions, cancellation: Cancellation) -> Written:
        choice = conversation.tool_choice
        tools = () if choice == "none" else conversation.tools
        family = self._family_of(tools)
        variables = options.extensions.get("chat_template_kwargs")
        if self._sight is None and has_pictures(conversation.messages):
            raise invalid(
                f"The model {self._name!r} sees no pictures.", param="messages", code="unsupported_value"
            )
        messages, pictures = without_pictures(conversation.messages, cancellation)
        told = in_parts(messages) if self._wants_parts else messages
        text = self._filled(told, tools, variables, cancellation)
        tokens, seen = self._read(text, pictures, cancellation)
        if family is None:
            prompt = Prompt(tokens, "messages", self._held(options.schema, cancellation), seen=seen)
            return self._write(prompt, options, cancellation)
        parallel = conversation.parallel_tool_calls is not False
        marks = {token: mark for mark, token in self._marks.items()}
        answer = None if choice == "required" else options.schema
        if answer is not None and not family.opening:
            raise invalid(
                "This model's calls look like answers in JSON. Send response_format without tools, or with "
                "tool_choice none or required.",
                param="response_format",
                code="unsupported_value",
            )
        held: Held | HeldCalls | None = None
        if choice == "required" or answer is not None:
            grammar = grammar_of_calls(family, tools, self._marks, parallel=parallel, answer=answer)
            held = self._grammars.hold(grammar, "tools", cancellation)
        elif any(map(is_strict, tools)):
            grammar = grammar_of_strict_calls(family, tools, self._marks, parallel=parallel)
            held = HeldCalls(self._grammars.hold(grammar, "tools", cancellation), family, marks)
        prompt = Prompt(tokens, "messages", held, marks, seen)
        names = [tool["function"]["name"] for tool in tools]
        writing = self._write(prompt, options, cancellation)
        return told_calls(writing, family, names, parallel=parallel, stop=options.stop)

    def complete(self, prompt: Text, options: TextOptions, cancellation: Cancellation) -> Written:
        if isinstance(prompt, str):
            check_length(prompt, self._limit, "prompt")
            tokens = self._tokens(prompt, special=True)
        else:
            tokens = list(prompt)
        if not tokens or max(tokens) >= self._words:
            raise invalid(f"prompt must be ids of tokens below {self._words}, at least one.", param="prompt")
        held = self._held(options.schema, cancellation)
        goes_on = tokens[-_BEFORE:]
        return self._write(Prompt(tokens, "prompt", held, goes_on=goes_on), options, cancellation)

    def _family_of(self, tools: Sequence[Mapping[str, Any]]) -> Family | None:
        """How calls of these tools look; None where there are none to call."""
        if tools and self._family is None:
            raise invalid(
                f"The template of the model {self._name!r} knows no tools, or calls of a kind that is not "
                "read here. Send the request without them.",
                param="tools",
                code="unsupported_value",
            )
        return self._family if tools else None

    def _read(
        self, text: str, pictures: Sequence[Any], cancellation: Cancellation
    ) -> tuple[list[int], dict[str, Any]]:
        """The conversation's tokens, and what the model is given beside them."""
        check_length(text, self._limit, "messages")
        if self._sight is None:
            return self._tokens(text, special=False), {}
        if pictures:
            self._check_room(self._sight.places(pictures), "messages", "The pictures are")
            return self._sight.look(text, pictures, cancellation)
        with self._tokenizing:
            return self._sight.read(text), {}

    def _tokens(self, text: str, *, special: bool) -> list[int]:
        """The tokenizer keeps a state of its own while it reads; templates need none of it."""
        with self._tokenizing:
            return list(self._loaded.tokenizer(text, add_special_tokens=special)["input_ids"])

    def _filled(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]],
        variables: object,
        cancellation: Cancellation,
    ) -> str:
        if not self._loaded.tokenizer.chat_template:
            raise invalid(
                f"The model {self._name!r} has no template for conversations: use /v1/completions.",
                param="model",
                code="unsupported_value",
            )
        return self._template.fill(messages, variables, cancellation, tools)

    def _write(self, prompt: "Prompt", options: TextOptions, cancellation: Cancellation) -> Written:
        room = self._check_room(len(prompt.tokens), prompt.param)
        most = min(options.max_tokens or room, room)
        draw = Draw(chances(options, self._habits), len(prompt.tokens), self._loaded.device, prompt.held)
        return self._told(prompt, most, draw, cancellation)

    def _check_room(self, tokens: int, param: str, what: str = "The prompt is") -> int:
        """How many tokens an answer to so many may have; raises `EngineError` for too many."""
        if tokens >= self._limit:
            raise invalid(
                f"{what} {tokens} tokens long, and the model takes {self._limit} with its answer. "
                "Send less, or give the engine a longer context.",
                param=param,
                code="context_length_exceeded",
            )
        return self._limit - tokens

    def _held(self, schema: Mapping[str, Any] | None, cancellation: Cancellation) -> Held | None:
        if schema is None:
            return None
        grammar = json_grammar(schema, "response_format")
        return self._grammars.hold(grammar, "response_format", cancellation)

    def _told(self, prompt: "Prompt", most: int, draw: Draw, cancellation: Cancellation) -> Written:
        yield Prompted(len(prompt.tokens))
        spelling = Spelling(self._loaded.tokenizer.backend_tokenizer, prompt.goes_on)
        count, reason = 0, FinishReason.LENGTH
        telling = Telling(cancellation)
        try:
            telling.begin(self._generate, prompt, most, draw)
            while (token := telling.next()) is not None:
                count += 1
                if token in self._ends:
                    reason = FinishReason.STOP
                    break
                # Of a character's bytes all but the last say nothing yet; they still count.
                yield Piece(spelling.add(token) or prompt.marks.get(token, ""))
            else:
                if prompt.held is not None and prompt.held.over:
                    reason = FinishReason.STOP
        finally:
            telling.leave()  # the slot is free when it says so, and not before
        yield Finish(reason, count)

    def _generate(self, prompt: "Prompt", most: int, draw: Draw, telling: Telling) -> None:
        ends = [telling.should_end, *([prompt.held.should_end] if prompt.held else [])]
        ids = torch.tensor([prompt.tokens], device=self._loaded.device)
        part = self._part
        self._looks.of(telling)
        with torch.inference_mode():
            self._loaded.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                **prompt.seen,
                max_new_tokens=most,
                eos_token_id=sorted(self._ends) or None,
                do_sample=False,
                num_beams=1,
                prefill_chunk_size=part if part and len(prompt.tokens) > part else None,
                cache_implementation=None,  # for those of a fixed size the model would be compiled
                disable_compile=True,
                temperature=None,
                top_p=None,
                top_k=None,
                logits_processor=LogitsProcessorList([draw]),
                stopping_criteria=StoppingCriteriaList(ends),
                streamer=telling,
            )
