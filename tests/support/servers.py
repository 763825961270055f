"""Servers of a test's own process: how one is ended so that nothing of it is left."""

import asyncio

from aiohttp import web

_STEPS = 4
"""Of the event loop, in which a connection that was accepted becomes one of the server's."""


async def end(runner: web.AppRunner) -> None:
    """Ends the server and all of its connections, also those that come in this very moment.

    One that Python 3.11 accepts just before its server is closed is given to nobody and never closed: it
    fails whichever test the garbage collector finds it in. So nothing is accepted any more a while before.
    """
    loop = asyncio.get_running_loop()
    for site in runner.sites:
        server = site._server
        assert isinstance(server, asyncio.Server)
        for listening in server.sockets:
            loop.remove_reader(listening.fileno())
    for _ in range(_STEPS):
        await asyncio.sleep(0)
    await runner.cleanup()
