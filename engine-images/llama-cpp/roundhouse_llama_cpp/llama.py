"""The server of llama.cpp in this process: started, and its errors told in the SDK's words.

The process is a child of the engine, which itself never loads the library: it holds Python's lock for as long
as it loads a model, and some of its errors end the process that it is in.

It is asked by calls, and listens on the loopback address besides, where only who knows a key is answered:
the key is made here and told to nobody.
"""

import http.client
import json
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from roundhouse_engine import ModelError
from roundhouse_engine.errors import EngineError, failed, invalid, no_memory_left
from roundhouse_engine.gpu_memory import Growth
from roundhouse_llama_cpp.bounds import check_length, most_bytes, too_many
from roundhouse_llama_cpp.settings import MOST, Settings
from roundhouse_llama_cpp.stacks import make_room

_ERRORS_ONLY: Final = 1
_BATCH_TOKENS: Final = 512
"""Tokens of a prompt that are read between two looks at whether its client is still there."""
_ANSWER_SECONDS: Final = 60
_SENTENCEPIECE: Final = 1
"""llama.cpp's number for tokenizers that copy all tokens so far for each character that they do not know."""
_PIECE_CHARACTERS: Final = 8192
_TRIED: Final = (
    "Unable to generate parser for this template. ",
    "Automatic parser generation failed: ",
    "Failed to initialize samplers: ",
)
_SAID: Final = 200
"""Characters of what it says: some of it repeats the request."""
_FAR_TOO_LONG: Final = 2
"""Times the context: not all of a conversation has to go into its prompt, and nothing can be added to it."""


class Llama:
    """One loaded model."""

    def __init__(self, name: str, weights: Path, settings: Settings, *, embedding: bool = False) -> None:
        import xllamacpp  # noqa: PLC0415 - never in the engine itself

        _check_context(settings, embedding=embedding)
        make_room(most_bytes(settings.context_tokens))
        if settings.gpu_layers:
            _check_gpu(xllamacpp, settings)
        self._key = secrets.token_urlsafe(32)
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(weights)
        parameters.n_ctx = settings.context_tokens * settings.parallel
        parameters.n_parallel = settings.parallel
        parameters.n_batch = parameters.n_ubatch = _BATCH_TOKENS
        parameters.n_gpu_layers = settings.gpu_layers
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = settings.threads
        parameters.api_keys = [self._key]
        parameters.hostnames = ["127.0.0.1"]
        parameters.verbosity = _ERRORS_ONLY
        parameters.warmup = False  # a request of one token that a pod's first client would not notice
        parameters.fit_params = False  # what was asked for, or an error
        parameters.cache_ram_mib = 0  # prompts of other requests stay in the slots, and nowhere else
        if embedding:
            parameters.embedding = True
            parameters.n_batch = parameters.n_ubatch = settings.context_tokens  # a text is read in one go
            if settings.pooling is not None:
                kinds, kind = xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{settings.pooling.upper()}"
                parameters.pooling_type = getattr(kinds, kind)
        before = Growth() if settings.gpu_layers else None
        try:
            self.server = xllamacpp.Server(parameters)
        except RuntimeError as error:
            raise ModelError(
                f"{name!r}: llama.cpp cannot load {str(weights)!r}; its own lines in this log say why. "
                "The file may be cut off (fetch it again), or of a kind that it does not know. Or memory is "
                f"short, with its context of {settings.context_tokens} tokens for each request at once "
                f"({settings.parallel}): give it more, or set ROUNDHOUSE_LLAMA_CONTEXT_TOKENS to less."
            ) from error
        self.vram_bytes = before.bytes() if before else None
        """Of weights and context, which are all there from the beginning; None where no GPU is used."""
        host = self.server.listening_address.removeprefix("http://")
        self._connection = http.client.HTTPConnection(host, timeout=_ANSWER_SECONDS)
        self._asking = threading.Lock()
        about = self._ask("GET", "/props")
        its_tokens: int = about["default_generation_settings"]["n_ctx"]
        self.context_tokens = min(settings.context_tokens, its_tokens)
        """Of each request: what was asked for, or what the model was made for where that is less."""
        self.knows_tools = bool(about["chat_template_caps"]["supports_tools"])
        """Whether the model's template puts tools into the prompt; where not, llama.cpp drops them."""
        [listed] = self._ask("GET", "/v1/models")["data"]
        self._slow = listed["meta"]["vocab_type"] == _SENTENCEPIECE

    def count_tokens(self, text: str) -> int:
        """Raises `EngineError` for a text that is not worth counting."""
        check_length(text, self.context_tokens, None)
        self.check_worth(text, None)
        return self._count(text, add_special=True)

    def check_worth(self, text: str, param: str | None) -> None:
        """Raises `EngineError` where a text is far too long, by its first pieces.

        What is not far too long is left to llama.cpp, which alone knows how many tokens a prompt has.
        """
        if not self._slow:
            return
        most, found = _FAR_TOO_LONG * self.context_tokens, 0
        for start in range(0, len(text) - _PIECE_CHARACTERS, _PIECE_CHARACTERS):
            found += self._count(text[start : start + _PIECE_CHARACTERS])
            if found > most:
                raise too_many(f"more than {most}", self.context_tokens, param)

    def _count(self, text: str, *, add_special: bool = False) -> int:
        return len(self._ask("POST", "/tokenize", {"content": text, "add_special": add_special})["tokens"])

    def _ask(self, method: str, path: str, told: object = None) -> dict[str, Any]:
        with self._asking:
            try:
                return self._answer(method, path, told)
            except (http.client.HTTPException, ConnectionError):
                self._connection.close()  # llama.cpp closes one that was idle; the next is a new one
                return self._answer(method, path, told)

    def _answer(self, method: str, path: str, told: object) -> dict[str, Any]:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"}
        body = None if told is None else json.dumps(told).encode()
        self._connection.request(method, path, body, headers)
        answer: dict[str, Any] = json.load(self._connection.getresponse())
        return answer


def _check_context(settings: Settings, *, embedding: bool) -> None:
    if settings.context_tokens * settings.parallel > MOST:
        times = "texts" if embedding else "requests (ROUNDHOUSE_CAPACITY)"
        raise ModelError(
            f"ROUNDHOUSE_LLAMA_CONTEXT_TOKENS is {settings.context_tokens}, for each of {settings.parallel} "
            f"{times} at once; llama.cpp holds at most {MOST} tokens. Set it to less."
        )


def _check_gpu(xllamacpp: Any, settings: Settings) -> None:  # noqa: ANN401 - the library has no types
    if not any(device["type"].name.endswith("GPU") for device in xllamacpp.get_device_info()):
        raise ModelError(
            f"ROUNDHOUSE_LLAMA_GPU_LAYERS is {settings.gpu_layers}, and llama.cpp sees no GPU: give the "
            "container one and the image for GPUs, or leave the variable out."
        )


def problem(error: Mapping[str, Any], param: str) -> EngineError:
    """What llama.cpp refused or failed at, for the client."""
    message = str(error.get("message", "no reason was given"))
    if error.get("type") == "exceed_context_size_error":
        tokens, most = error["n_prompt_tokens"], error["n_ctx"]
        return too_many(tokens, most - (tokens == most), param)  # there must be room for an answer
    if error.get("code") in (400, 501):
        return refused(message, param)
    if "bad_alloc" in message:  # C++'s own words for it
        return no_memory_left()
    return failed(f"llama.cpp failed: {message}")


def refused(said: object, param: str) -> EngineError:
    """What is wrong in the library's words, behind ours: its own begin with what it tried."""
    told = " ".join(str(said).split())
    for each in _TRIED:
        told = told.removeprefix(each)
    told = told if len(told) <= _SAID else f"{told[:_SAID]}…"
    return invalid(
        f"{param} cannot be used as it is: leave out or change what is named here. llama.cpp says: {told}",
        param=param,
    )
