"""What goes wrong, as a status and one sentence: ``{"detail": "…"}``, nothing else."""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import SQLAlchemyError

from cloister_shared.errors import CloisterError, DataError, PolicyError
from cloister_shared.frozen import Frozen

logger = logging.getLogger(__name__)


class Problem(Frozen):
    """What was asked, what was found, what to do, in one sentence."""

    detail: str


PROBLEMS: dict[int | str, dict[str, Any]] = {
    401: {"model": Problem, "description": "The API token is missing or wrong."},
    422: {"model": Problem, "description": "The request is not valid, or names an unknown item."},
    503: {"model": Problem, "description": "No model is active yet, or the node cannot answer."},
}


def handle_problems(app: FastAPI) -> None:
    """Turn invalid requests and known errors into problems."""
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(CloisterError, _known_error)
    app.add_exception_handler(SQLAlchemyError, _store_error)


async def _invalid_request(_: Request, error: Exception) -> JSONResponse:
    """All mistakes with their places; what was sent is not repeated."""
    mistakes = error.errors() if isinstance(error, RequestValidationError) else []
    sentences = [f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in mistakes]
    return _problem(422, "; ".join(sentences))


async def _known_error(_: Request, error: Exception) -> JSONResponse:
    status = {DataError: 422, PolicyError: 403}.get(type(error), 503)
    return _problem(status, str(error))


async def _store_error(_: Request, error: Exception) -> JSONResponse:
    """The database's own text may name a pseudonym: only the kind of error is logged."""
    logger.error("the store failed: %s", type(error).__name__)
    return _problem(503, "the node's store did not answer; send the same request again")


def _problem(status: int, detail: str) -> JSONResponse:
    return JSONResponse(Problem(detail=detail).model_dump(), status_code=status)
