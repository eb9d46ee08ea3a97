"""What goes wrong over HTTP: every error is one JSON form, and none shows internals."""

import logging
from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Scope

from bespoke.errors import BespokeError, Forbidden, Unauthorized, Unavailable

logger = logging.getLogger(__name__)

RETRY_AFTER = {"Retry-After": "1"}
INTERNAL = "the request failed; nothing is known to be wrong with it"
OVERLOADED = "too many requests at once; try again"
NO_ROUTE = "none"
CHALLENGE = {"WWW-Authenticate": 'Basic realm="bespoke", charset="UTF-8"'}


class RequestError(BespokeError):
    """A request cannot be answered as it stands.

    Attributes:
        status: the HTTP status.
        code: a stable word for programs; the message is for people.
        details: further members of the body.
        headers: of the answer, such as Retry-After.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.details = details or {}
        # Who cannot be served now is told when to come again, whoever raises this.
        self.headers = headers or (RETRY_AFTER if status in (429, 503) else {})
        super().__init__(message)


def error_response(
    status: int,
    code: str,
    message: str,
    *,
    details: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return an error in the one form that every route uses; the Segment clients read ``code`` and ``message``."""
    body = error_bytes(code, message, **(details or {}))
    return Response(body, status_code=status, media_type="application/json", headers=dict(headers or {}))


def error_bytes(code: str, message: str, **details: Any) -> bytes:
    """Return the body of an error."""
    return orjson.dumps({"success": False, "code": code, "message": message, **details})


def add_error_handlers(app: FastAPI) -> None:
    """Make ``app`` answer the errors of the library and of the framework in the one form."""
    app.add_exception_handler(BespokeError, _on_bespoke_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_error)


async def _on_bespoke_error(request: Request, error: Exception) -> Response:
    match error:
        case RequestError():
            return error_response(error.status, error.code, str(error), details=error.details, headers=error.headers)
        case Forbidden():
            return error_response(403, "forbidden", str(error))
        case Unauthorized():
            return error_response(401, "unauthorized", str(error), headers=CHALLENGE)
        case Unavailable():
            logger.warning("%s: a store is unavailable: %s", route_of(request.scope), type(error.__cause__).__name__)
            message = "a store cannot be reached now; send the same request again"
            return error_response(503, "unavailable", message, headers=RETRY_AFTER)
    logger.error("%s: %s", route_of(request.scope), type(error).__name__)
    return error_response(500, "internal", INTERNAL)


def route_of(scope: Scope) -> str:
    """Return the route of a request as it is declared: its path may hold a person's id."""
    return getattr(scope.get("route"), "path", NO_ROUTE)


async def _on_invalid_request(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    problems = error.errors()
    if any(problem["type"] == "json_invalid" for problem in problems):
        return error_response(400, "invalid_json", "the body is not JSON; NaN and Infinity are not JSON either")
    details = [{"field": _path(problem["loc"]), "message": problem["msg"]} for problem in problems]
    message = "; ".join(f"{detail['field']}: {detail['message']}" for detail in details)
    return error_response(422, "invalid_request", message, details={"details": details})


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {401: "unauthorized", 404: "not_found", 405: "method_not_allowed"}
    return error_response(error.status_code, codes.get(error.status_code, "http"), error.detail, headers=error.headers)


def _path(location: tuple[Any, ...]) -> str:
    """Return where in the body a problem is.

    >>> _path(("body", "exclude", 0))
    'exclude.0'
    """
    return ".".join(str(part) for part in location if part != "body") or "body"
