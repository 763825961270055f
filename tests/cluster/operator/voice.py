"""What fake pods say: one server answers on port 8000 of all their addresses, as slowly as it is told.

`python -m tests.cluster.operator.voice SECONDS`. It counts what it is asked at once, and says it with each
answer, so that a test sees whether more came than an engine would take.
"""

import asyncio
import sys

from aiohttp import web

PORT = 8000


async def main(seconds: float) -> None:
    at_once = 0

    async def transcribe(request: web.Request) -> web.Response:
        nonlocal at_once
        await request.read()
        at_once += 1
        try:
            most = at_once
            await asyncio.sleep(seconds)
            return web.json_response({"text": "go forward", "at_once": most})
        finally:
            at_once -= 1

    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/v1/audio/transcriptions", transcribe)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "0.0.0.0", PORT).start()  # noqa: S104 - of a network of the test's own
    print("listening", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1])))
