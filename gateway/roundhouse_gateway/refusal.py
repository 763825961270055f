"""An error as the whole answer to a request whose body may still be on its way.

Many clients read an answer only when they have sent everything: what they still send is dropped for a while
before the connection closes.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Send

from roundhouse_gateway.errors import BrokenAnswerError, ClientGoneError, GatewayError
from roundhouse_gateway.exchange import Exchange
from roundhouse_gateway.upload import Upload


@asynccontextmanager
async def told(upload: Upload, exchange: Exchange, send: Send) -> AsyncIterator[None]:
    """Around all that is done for a request: what goes wrong is told to its client, or to the log."""
    try:
        yield
    except GatewayError as error:
        await refuse(error, upload, exchange, send)
    except ClientGoneError:
        exchange.client_left()
    except BrokenAnswerError as error:
        exchange.note = str(error)
    finally:
        exchange.upload_bytes = upload.received


async def refuse(error: GatewayError, upload: Upload, exchange: Exchange, send: Send) -> None:
    unread = not upload.ended.is_set()
    await exchange.send_error(send, error, more=unread)
    if unread:
        await end(upload, send)


async def end(upload: Upload, send: Send) -> None:
    """Ends an answer, but lets a client that is still sending come to the end of it first."""
    if not upload.ended.is_set():
        await upload.discard()
    await send({"type": "http.response.body", "body": b""})
