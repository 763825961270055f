"""The application: routes, raw ASGI routes and error handlers put together, for both listeners."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import ASGIApp

from roundhouse_api.model import plain_words
from roundhouse_gateway.error_shapes import body_of
from roundhouse_gateway.errors import (
    GatewayError,
    InternalError,
    InvalidRequestError,
    MethodNotAllowedError,
    RouteNotFoundError,
)
from roundhouse_gateway.exchange import EXCHANGE, Observed
from roundhouse_gateway.load import PATH as LOAD
from roundhouse_gateway.metrics import Metrics
from roundhouse_gateway.openapi import describe
from roundhouse_gateway.routes import Readiness, api_routes, service_routes
from roundhouse_gateway.selecting import select_routes

TITLE = "Roundhouse gateway"

Layer = Callable[[ASGIApp], ASGIApp]


def build_api(
    readiness: Readiness, metrics: Metrics, posts: Mapping[str, ASGIApp], guard: Layer | None = None
) -> ASGIApp:
    """What listens on the API's port; `guard` stands before all routes, unless everything is open.

    `posts` are the raw ASGI applications that answer a POST, by their paths.
    """
    app = _bare(openapi_url="/openapi.json")
    app.include_router(service_routes(readiness, metrics))
    app.include_router(api_routes(readiness.registry))
    app.include_router(select_routes(readiness.registry))
    app.router.routes += [
        Route(path, post, methods=["POST"], include_in_schema=False) for path, post in posts.items()
    ]
    app.openapi = partial(describe, app)  # type: ignore[method-assign]
    return Observed(guard(app) if guard else app, metrics)


def build_service(readiness: Readiness, metrics: Metrics, load: ASGIApp) -> ASGIApp:
    """What listens on the metrics port, for the cluster alone."""
    app = _bare(openapi_url=None)
    app.include_router(service_routes(readiness, metrics))
    app.router.routes.append(Route(LOAD, load, methods=["GET"]))
    return Observed(app, metrics)


def _bare(openapi_url: str | None) -> FastAPI:
    app = FastAPI(
        title=TITLE,
        version=version("roundhouse"),
        openapi_url=openapi_url,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for kind in (GatewayError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _on_error)
    return app


async def _on_error(request: Request, error: Exception) -> Response:
    told = _told(request, error)
    headers = {name.decode(): value.decode() for name, value in told.headers()}
    request_id: str = request.scope[EXCHANGE].request_id
    return Response(body_of(told, request.url.path, request_id), told.status, headers)


def _told(request: Request, error: Exception) -> GatewayError:
    """What a client is told of an error; routing and FastAPI have kinds of their own."""
    where = f"{request.method} {request.url.path}"
    match error:
        case GatewayError():
            return error
        case RequestValidationError():
            first = error.errors()[0]
            name = str(first["loc"][-1])
            return InvalidRequestError(f"`{name}`: {plain_words(first['msg'])}", param=name)
        case HTTPException(status_code=405):
            return MethodNotAllowedError(where, (error.headers or {}).get("Allow", ""))
        case HTTPException():
            return RouteNotFoundError(f"There is no route {where}; /openapi.json lists those there are.")
        case _:
            return InternalError(request.scope[EXCHANGE].request_id)
