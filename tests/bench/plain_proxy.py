"""`python -m tests.bench.plain_proxy PORT BACKEND`: what FastAPI and aiohttp make in a dozen lines."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse


def app_for(backend: str) -> FastAPI:
    @asynccontextmanager
    async def session(app: FastAPI) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as made:
            app.state.session = made
            yield

    app = FastAPI(lifespan=session)

    @app.post("/{path:path}")
    async def forward(path: str, request: Request) -> Response:
        kind = {"content-type": request.headers.get("content-type", "")}
        made: aiohttp.ClientSession = request.app.state.session
        answer = await made.post(f"{backend}/{path}", data=request.stream(), headers=kind)
        return StreamingResponse(
            answer.content.iter_any(), answer.status, {"content-type": answer.headers["content-type"]}
        )

    return app


if __name__ == "__main__":
    uvicorn.run(
        app_for(sys.argv[2]), port=int(sys.argv[1]), loop="uvloop", http="httptools", access_log=False
    )
