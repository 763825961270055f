"""The engine of transformers with what no request brings about by itself: schemas never read, no memory."""

import importlib
import threading
from typing import Any, Final

from typing_extensions import override

from roundhouse_engine import serve
from roundhouse_transformers.handlers import TransformersChat

NEVER_READ: Final = "never read"
OUT_OF_MEMORY: Final = 7
"""So many tokens are asked for."""
SECONDS: Final = 2.0


class Odd(TransformersChat):
    @override
    def load(self, *arguments: Any) -> None:
        super().load(*arguments)
        # Torch loads with the model.
        grammar: Any = importlib.import_module("roundhouse_transformers.grammar")
        reads = grammar.LLMatcher

        class Matcher:
            grammar_from_json_schema = reads.grammar_from_json_schema

            def __new__(cls, tokenizer: Any, told: str, **options: Any) -> Any:
                if NEVER_READ in told:
                    threading.Event().wait()
                return reads(tokenizer, told, **options)

        grammar.LLMatcher = Matcher
        self._writer._grammars._readings.seconds = SECONDS
        generate = self._writer._generate

        def short(prompt: Any, most: int, draw: Any, telling: Any) -> None:
            import torch  # noqa: PLC0415 - as above

            if most == OUT_OF_MEMORY:
                torch.empty(1 << 50)
            generate(prompt, most, draw, telling)

        self._writer._generate = short  # type: ignore[method-assign]


if __name__ == "__main__":
    serve(Odd)
