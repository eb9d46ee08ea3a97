"""What the OpenAPI document says of every route: which key it needs, and every error that the edge may answer with."""

from collections.abc import Iterator
from typing import Any

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import iter_route_contexts

from serving.auth import KeyCheck
from serving.schemas import ErrorBody

SCHEMES = {
    "basic": {"type": "http", "scheme": "basic", "description": "The key as user name, with an empty password."},
    "bearer": {"type": "http", "scheme": "bearer", "description": "The key as token."},
}
SCOPE = "x-scope"
"""The member of an operation that names the scope which its key needs."""
REQUEST_ID = {"description": "Names this request in the logs.", "schema": {"type": "string"}}
RETRY_AFTER = {"description": "Seconds to wait before the request is sent again.", "schema": {"type": "string"}}
ALWAYS = {400: "Bad Request", 413: "Content Too Large", 415: "Unsupported Media Type", 422: "Unprocessable Content"}
FAILURES = {500: "Internal Server Error", 503: "Service Unavailable", 504: "Gateway Timeout"}
WITH_KEY = {401: "Unauthorized", 403: "Forbidden", 429: "Too Many Requests"}
_ERROR = {"$ref": f"#/components/schemas/{ErrorBody.__name__}"}


def complete_openapi(app: FastAPI) -> None:
    """Have the document of ``app`` name the scope of every route, and the answers of the edge."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _completed(made(), app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def scopes_of(app: FastAPI) -> Iterator[tuple[str, str, str | None]]:
    """Yield path, method and needed scope of every route, as it is declared; None: it needs no key."""
    for route in iter_route_contexts(app.routes):
        dependant = getattr(route, "dependant", None)
        if isinstance(dependant, Dependant) and getattr(route, "include_in_schema", True):
            for method in sorted(route.methods or ()):
                yield str(route.path_format), method.lower(), _scope(dependant)


def _scope(dependant: Dependant) -> str | None:
    if isinstance(dependant.call, KeyCheck):
        return str(dependant.call.scope)
    return next((scope for inner in dependant.dependencies if (scope := _scope(inner)) is not None), None)


def _completed(document: dict[str, Any], app: FastAPI) -> dict[str, Any]:
    for path, method, scope in scopes_of(app):
        operation = document["paths"][path][method]
        if scope is not None:
            operation[SCOPE] = scope
            operation["security"] = [{name: []} for name in SCHEMES]
            needs = f"Needs a key with scope `{scope}`."
            operation["description"] = "\n\n".join(filter(None, (operation.get("description"), needs)))
        _add_answers(operation["responses"], ALWAYS | FAILURES | (WITH_KEY if scope is not None else {}))
    components: dict[str, Any] = document.setdefault("components", {})
    components["securitySchemes"] = SCHEMES
    schemas = components.setdefault("schemas", {})
    schemas.setdefault(ErrorBody.__name__, ErrorBody.model_json_schema(ref_template="#/components/schemas/{model}"))
    # The framework's own form of a 422, which no route here answers with.
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document


def _add_answers(responses: dict[str, Any], known: dict[int, str]) -> None:
    for status, meaning in known.items():
        said = responses.get(str(status))
        if said is None or status == 422:
            responses[str(status)] = {"description": meaning, "content": {"application/json": {"schema": _ERROR}}}
    for answer, response in responses.items():
        response.setdefault("headers", {})["X-Request-ID"] = REQUEST_ID
        if answer in ("429", "503"):
            response["headers"]["Retry-After"] = RETRY_AFTER
