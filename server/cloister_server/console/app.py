"""The status page and Prometheus metrics as an ASGI application: it reads files, answers GET."""

import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, PlainTextResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.trustedhost import TrustedHostMiddleware

from cloister_server.console.metrics import metrics_of
from cloister_server.home import CoordinatorHome
from cloister_server.overview import overview
from cloister_shared.errors import CloisterError, ServiceError

LOOPBACK = "127.0.0.1"
_FOLDER = Path(__file__).parent
_STYLE = (_FOLDER / "style.css").read_text("utf-8")
_PAGES = Environment(
    loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def create_app(home: CoordinatorHome) -> FastAPI:
    """The pages of one coordinator. Only browsers that asked for loopback by name are answered."""
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    # A page elsewhere may have its own name point here; it would send that name.
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[LOOPBACK, "localhost"])

    @app.middleware("http")
    async def add_headers(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await call_next(request)
        response.headers.update(_HEADERS)
        return response

    @app.exception_handler(CloisterError)
    def tell(_: Request, error: CloisterError) -> PlainTextResponse:
        return PlainTextResponse(f"{error}\n", status_code=500)

    @app.get("/")
    def status() -> HTMLResponse:
        now = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        return HTMLResponse(_PAGES.get_template("page.html.j2").render(of=overview(home), now=now))

    @app.get("/style.css")
    def style() -> Response:
        return Response(_STYLE, media_type="text/css")

    @app.get("/metrics")
    def metrics() -> Response:
        return Response(generate_latest(metrics_of(home)), media_type=CONTENT_TYPE_LATEST)

    return app


def serve_console(home: CoordinatorHome, on_ready: Callable[[str], None]) -> None:
    """Answer on loopback until SIGTERM; ``on_ready`` is told the address.

    Raises ``ServiceError`` if the port cannot be had.
    """
    port = home.config.console_port
    try:
        listener = socket.create_server((LOOPBACK, port))
    except OSError as error:
        raise ServiceError(
            f"cannot listen on {LOOPBACK}, port {port}: {error.strerror}; choose another "
            "console_port in coordinator.yaml"
        ) from error
    with listener:
        # uvicorn takes SIGTERM over, shuts down, then raises it again: an exit, not a kill.
        signal.signal(signal.SIGTERM, _exit)
        config = uvicorn.Config(
            create_app(home), access_log=False, log_level="warning", server_header=False
        )
        on_ready(f"http://{LOOPBACK}:{port}")
        uvicorn.Server(config).run(sockets=[listener])


def _exit(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)
