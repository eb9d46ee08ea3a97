"""Routes whose body is read by orjson, which refuses NaN and Infinity as JSON does."""

from collections.abc import Callable, Coroutine
from inspect import iscoroutinefunction
from typing import Any

import orjson
from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

_NOT_PLAIN = (
    *("path_params", "query_params", "cookie_params", "websocket_param_name", "http_connection_param_name"),
    *("response_param_name", "background_tasks_param_name", "security_scopes_param_name", "concurrency"),
)


class _OrjsonRequest(Request):
    async def json(self) -> Any:
        return orjson.loads(await self.body())


class OrjsonRoute(APIRoute):
    """Reads the request's JSON strictly, and fast."""

    def get_route_handler(self) -> Handler:
        """Return the handler over the strict request."""
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            return await handler(_OrjsonRequest(request.scope, request.receive))

        return handle


class DirectRoute(APIRoute):
    """An :class:`OrjsonRoute` that calls dependencies and endpoint itself where a request is in order.

    The framework's general way costs more than all else around a decision. It is taken where a request is not in order,
    so that the framework says what is wrong, and by every route that asks for more than its body, the request, headers
    and coroutines that ask for no more than those. Dependencies belong to the route or its router: what is given to
    ``include_router`` is not called.
    """

    def get_route_handler(self) -> Handler:
        """Return the handler that takes the short way where it can."""
        general, endpoint, body = super().get_route_handler(), self.dependant, self.body_field
        parts = (*endpoint.dependencies, endpoint)
        direct = len(endpoint.body_params) == 1 and not self._embed_body_fields and all(map(_is_plain, parts))
        direct = direct and not any(one.dependencies or one.body_params for one in endpoint.dependencies)

        async def handle(request: Request) -> Response:
            strict = _OrjsonRequest(request.scope, request.receive)
            if body is None or not direct or request.app.dependency_overrides:
                return await general(strict)
            calls = [_arguments(one, strict) for one in parts]
            try:
                plain = strict.headers.get("content-type") == "application/json" and None not in calls
                form, wrong = body.validate(await strict.json(), {}, loc=("body",)) if plain else (None, [None])
            except orjson.JSONDecodeError:
                wrong = [None]
            if wrong:
                # Nothing was called yet: a key is checked once, and counted once.
                return await general(strict)
            given: dict[str, Any] = {endpoint.body_params[0].name: form, **(calls.pop() or {})}
            for one, arguments in zip(endpoint.dependencies, calls, strict=True):
                found = await _called(one, arguments or {})
                if one.name is not None:
                    given[one.name] = found
            response: Response = await _called(endpoint, given)
            return response

        return handle


def _is_plain(part: Dependant) -> bool:
    """Return whether a dependency or an endpoint is a coroutine that asks for no more than the short way gives."""
    is_coroutine = iscoroutinefunction(part.call) or iscoroutinefunction(getattr(part.call, "__call__", None))  # noqa: B004
    return is_coroutine and not any(getattr(part, name) for name in _NOT_PLAIN)


def _arguments(part: Dependant, request: Request) -> dict[str, Any] | None:
    """Return what a part gets of the request; None where the framework has to look at its headers."""
    given: dict[str, Any] = {} if part.request_param_name is None else {part.request_param_name: request}
    for header in part.header_params:
        value = request.headers.get(header.alias)
        given[header.name], wrong = (
            (header.get_default(), None)
            if value is None and not header.field_info.is_required()
            else header.validate(value, {}, loc=("header",))
        )
        if wrong:
            return None
    return given


async def _called(part: Dependant, arguments: dict[str, Any]) -> Any:
    call: Any = part.call
    return await call(**arguments)
