"""ElevenLabs' `/v1/speech-to-text` as a way to ask: any `model_id` stands for `auto`.

Engines are asked for `verbose_json` in their own dialect, for that has all that the answer needs.
"""

import struct
from collections.abc import Sequence
from typing import Final

from roundhouse_api.enums import RouteName
from roundhouse_api.selection import ANY_LANGUAGE
from roundhouse_gateway.error_shapes import SPEECH_TO_TEXT
from roundhouse_gateway.errors import GatewayError, HopelessRequestError, UnsupportedValueError
from roundhouse_gateway.form import Field, FileStart
from roundhouse_gateway.snapshot import Entry
from roundhouse_gateway.speech.answer import Answer
from roundhouse_gateway.speech.dialects import Plan
from roundhouse_gateway.speech.elevenlabs_answer import MEDIA_TYPE, render
from roundhouse_gateway.speech.elevenlabs_request import Wanted, check_named, read_wanted
from roundhouse_gateway.transcription_request import TranscriptionRequest

_UNKNOWN_LENGTH: Final = 0xFFFFFFFF
_PCM_HEAD: Final = struct.pack(
    "<4sI4s4sIHHIIHH4sI",
    b"RIFF", _UNKNOWN_LENGTH, b"WAVE", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16, b"data", _UNKNOWN_LENGTH,
)  # fmt: skip
"""Makes a WAV of bare samples that are still to come: 16 kHz, mono, 16 bit."""


class SpeechToText:
    """See `route.Manner`."""

    path = SPEECH_TO_TEXT
    route = RouteName.TRANSCRIPTIONS

    def read(self, fields: Sequence[Field], *, complete: bool) -> TranscriptionRequest:
        wanted = read_wanted(fields)
        if complete:
            check_named(wanted)
        return wanted.request()

    def told(self, error: HopelessRequestError) -> GatewayError:
        """As a wrong request: ElevenLabs' clients repeat what is answered 503, whatever else it says."""
        return UnsupportedValueError(error.message)

    def passes(self, _field: Field, _plan: Plan) -> bool:
        """No field is called the same elsewhere."""
        return False

    def file(self, file: FileStart, fields: Sequence[Field]) -> tuple[FileStart, bytes]:
        """Bare samples as a WAV; they must be announced before the file."""
        if not read_wanted(fields).raw:
            return file, b""
        return FileStart("audio.wav", "audio/wav"), _PCM_HEAD

    def added(self, fields: Sequence[Field], plan: Plan) -> Sequence[Field]:
        wanted = read_wanted(fields)
        own = [Field("temperature", wanted.temperature.encode())] if wanted.temperature else []
        if not plan.added:
            return [*_in_openais_words(wanted, plan), *own]
        seed = [Field("seed", wanted.seed.encode())] if wanted.seed else []
        return [*plan.added, *own, *seed]

    async def answer(
        self, answer: Answer, fields: Sequence[Field], _request: TranscriptionRequest, _plan: Plan
    ) -> None:
        body = render(await answer.hear(), read_wanted(fields), answer.model, _only_language(answer.entry))
        await answer.send_whole(body, MEDIA_TYPE)


def _in_openais_words(wanted: Wanted, plan: Plan) -> list[Field]:
    request = wanted.request()
    fields = [
        Field("response_format", plan.asked.encode()),
        *(Field("timestamp_granularities[]", each.encode()) for each in sorted(request.granularities)),
        *(Field("keywords[]", each.encode()) for each in wanted.keyterms),
    ]
    if request.speakers:
        fields.append(Field("diarization", b"true"))
    return [*fields, Field("language", wanted.language.encode())] if wanted.language else fields


def _only_language(entry: Entry) -> str | None:
    """That of a model which is known to understand one alone."""
    languages = entry.model.languages
    if languages is None or len(languages) != 1 or ANY_LANGUAGE in languages:
        return None
    return next(iter(languages))
