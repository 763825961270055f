"""OpenAI's two audio routes as a way to ask: a transcript of the speech, or its translation into English."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from roundhouse_api.enums import RouteName
from roundhouse_gateway.errors import GatewayError, HopelessRequestError
from roundhouse_gateway.form import Field, FileStart
from roundhouse_gateway.speech.answer import Answer, send_answer
from roundhouse_gateway.speech.dialects import Plan
from roundhouse_gateway.transcription_request import (
    Task,
    TranscriptionRequest,
    bare,
    is_forwarded,
    read_request,
)


@dataclass(frozen=True, slots=True)
class AudioApi:
    """One of the routes: see `route.Manner`."""

    path: str
    route: RouteName
    task: Task

    def read(self, fields: Sequence[Field], *, complete: bool) -> TranscriptionRequest:
        return read_request(fields, complete=complete, task=self.task)

    def told(self, error: HopelessRequestError) -> GatewayError:
        return error

    def passes(self, field: Field, plan: Plan) -> bool:
        return is_forwarded(field) and bare(field.name) not in plan.replaced

    def file(self, file: FileStart, _: Sequence[Field]) -> tuple[FileStart, bytes]:
        return file, b""

    def added(self, _: Sequence[Field], plan: Plan) -> Sequence[Field]:
        return plan.added

    async def answer(
        self, answer: Answer, _: Sequence[Field], request: TranscriptionRequest, plan: Plan
    ) -> None:
        await send_answer(answer, request, plan)


TRANSCRIPTIONS: Final = AudioApi("/v1/audio/transcriptions", RouteName.TRANSCRIPTIONS, Task.TRANSCRIBE)
TRANSLATIONS: Final = AudioApi("/v1/audio/translations", RouteName.TRANSLATIONS, Task.TRANSLATE)
