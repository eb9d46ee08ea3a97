"""The console's pages."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs

import anyio.to_thread
from fastapi import Depends, FastAPI, Query, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bespoke.errors import BespokeError, Unauthorized
from monitoring.console.charts import band_chart, intervals_chart, line_chart
from monitoring.console.data import ConsoleData, intervals_of, time_of
from monitoring.console.sessions import LASTS_S, Session, Sessions, TooManyTries
from storage.control import ControlStore
from storage.settings import Settings

COOKIE = "bespoke_console"
MAX_FORM = 4_096
TEMPLATES = Path(__file__).parent / "templates"
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
REPORT_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; sandbox allow-scripts"
)
"""Reports are pages of Evidently with scripts inside: they run apart from the console's own pages."""


def create_console(settings: Settings, *, secure: bool = False) -> FastAPI:
    """Return the application.

    Args:
        settings: the installation.
        secure: whether browsers may send the cookie over TLS only.

    Raises:
        Unavailable: the control store cannot be opened.
    """
    control = ControlStore(settings.control_url)
    data, sessions = ConsoleData(settings, control), Sessions(control)
    pages = _Pages()
    app = FastAPI(title="Bespoke console", docs_url=None, redoc_url=None, openapi_url=None)

    async def session(request: Request) -> Session:
        found: Session = await _in_thread(sessions.of, request.cookies.get(COOKIE))
        return found

    Logged = Annotated[Session, Depends(session)]

    @app.middleware("http")
    async def headers(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.exception_handler(Unauthorized)
    async def to_login(request: Request, error: Exception) -> Response:
        return RedirectResponse("/login", status_code=303)

    @app.exception_handler(BespokeError)
    async def told(request: Request, error: Exception) -> Response:
        return pages.page("problem.html", status=503, words=str(error), session=None)

    @app.get("/login")
    async def login_page() -> Response:
        return pages.page("login.html", problem="", session=None)

    @app.post("/login")
    async def login(request: Request) -> Response:
        body = b""
        async for part in request.stream():
            body += part
            if len(body) > MAX_FORM:
                return pages.page("login.html", status=413, problem="that is no key", session=None)
        secret = parse_qs(body.decode(errors="replace")).get("key", [""])[0].strip()
        try:
            token = await _in_thread(sessions.log_in, secret)
        except TooManyTries:
            return pages.page("login.html", status=429, problem="too many tries; wait a minute", session=None)
        except Unauthorized:
            words = "this key is unknown, or lacks the scope experiments"
            return pages.page("login.html", status=403, problem=words, session=None)
        response = RedirectResponse("/", status_code=303)
        response.set_cookie(COOKIE, token, max_age=int(LASTS_S), httponly=True, samesite="strict", secure=secure)
        return response

    @app.post("/logout")
    async def logout(request: Request) -> Response:
        sessions.log_out(request.cookies.get(COOKIE))
        response = RedirectResponse("/login", status_code=303)
        response.delete_cookie(COOKIE)
        return response

    @app.get("/")
    async def overview(session: Logged) -> Response:
        found = await _in_thread(data.overview, _now())
        return pages.page("overview.html", found=found, session=session)

    @app.get("/experiments/{name}")
    async def experiment(name: str, session: Logged) -> Response:
        at = _now()
        found = await _in_thread(data.readout, name, at)
        if found is None:
            return pages.missing("no such experiment", session)
        history = await _in_thread(data.history, name, at)
        chart = intervals_chart(intervals_of(found))
        bands = {subject: band_chart(points) for subject, points in history.items() if len(points) > 1}
        return pages.page("experiment.html", found=found, chart=chart, bands=bands, session=session)

    @app.get("/segments/{name}")
    async def segment(name: str, session: Logged) -> Response:
        sizes = await _in_thread(data.sizes, name)
        return pages.page("segment.html", name=name, sizes=sizes, chart=line_chart(sizes), session=session)

    @app.get("/reports/{name}")
    async def report(name: str, session: Logged) -> Response:
        path = await _in_thread(data.report, name)
        if path is None:
            return pages.missing("no such report", session)
        return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": REPORT_POLICY})

    @app.get("/people")
    async def person(session: Logged, id: Annotated[str, Query(max_length=500)] = "") -> Response:
        if not session.may_see_people:
            words = "people's pages need a key that has the scope profiles, too"
            return pages.page("problem.html", status=403, words=words, session=session)
        found = await _in_thread(data.person, id, _now()) if id else None
        return pages.page("person.html", found=found, id=id, session=session)

    app.router.add_event_handler("shutdown", control.close)
    return app


class _Pages:
    """Pages from templates; everything that is put into one is escaped, but charts."""

    def __init__(self) -> None:
        self._environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
        self._environment.filters["percent"] = lambda share: f"{100 * share:+.1f}%"
        self._environment.filters["share"] = lambda share: f"{100 * share:.1f}%"
        self._environment.filters["figure"] = _figure
        self._environment.filters["when"] = lambda at: "-" if at is None else f"{at:%Y-%m-%d %H:%M}"
        self._environment.filters["when_ms"] = time_of

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        return HTMLResponse(self._environment.get_template(template).render(**values), status_code=status)

    def missing(self, words: str, session: Session) -> Response:
        return self.page("problem.html", status=404, words=words, session=session)


def _figure(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


async def _in_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    return await anyio.to_thread.run_sync(function, *arguments)


def _now() -> datetime:
    return datetime.now(UTC)
