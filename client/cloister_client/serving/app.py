"""The HTTP service as an ASGI application."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fastapi import FastAPI

from cloister_client.home import NodeHome
from cloister_client.personalization import Personalization
from cloister_client.serving.access import BodyLimit
from cloister_client.serving.problems import handle_problems
from cloister_client.serving.routes import protected, public
from cloister_client.store import Store
from cloister_shared import __version__

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(home: NodeHome) -> FastAPI:
    """The service of one node; its store is opened now and closed when the service ends."""
    store = home.store()
    app = describe_app(_closing(store))
    app.state.personalization = Personalization(store, home.curriculum)
    app.state.api_token = home.api_token()
    return app


def describe_app(lifespan: Lifespan | None = None) -> FastAPI:
    """Addresses, types and problems with no node behind them: all that OpenAPI describes."""
    # No pages of Swagger or Redoc: they would load scripts from elsewhere.
    app = FastAPI(
        title="Cloister personalization",
        version=__version__,
        description="What a learner knows and what comes next, computed at the institution.",
        openapi_url="/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(BodyLimit)
    app.include_router(public)
    app.include_router(protected)
    handle_problems(app)
    return app


def _closing(store: Store) -> Lifespan:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with store:
            yield

    return lifespan
