"""The application: routes and nothing else; what is shown comes from lines.py and facts.py.

Handlers are plain functions, which FastAPI runs in a pool of threads: the worklist is synchronous.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import jinja2
import structlog
from fastapi import FastAPI, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from ichnode.domain.clock import Clock, SystemClock
from ichnode.domain.errors import Transient
from ichnode.domain.ids import is_uid
from ichnode.domain.lifecycle import Band
from ichnode.web import absences, facts, health, lines, metrics, wording
from ichnode.web.guarding import Guard
from ichnode.web.views import Heartbeats, Mode, StudyStory, Views

log = structlog.get_logger(__name__)

HERE = Path(__file__).parent
PAGE = 100
LONGEST = 1000  # rows that one request of the interface may ask for

Offset = Annotated[int, Query(ge=0, le=10_000_000)]
Limit = Annotated[int, Query(ge=1, le=LONGEST)]


class Pages:
    """Fills the templates.

    Parameters
    ----------
    mode : callable
        Asked for every page, since a person may open the outputs at any time.
    """

    def __init__(self, version: str, mode: Callable[[], Mode], clock: Clock) -> None:
        self._version, self._mode, self._clock = version, mode, clock
        self._templates = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )

    def now(self) -> datetime:
        """Return the moment that the page speaks of."""
        return self._clock.now()

    def show(self, name: str, here: str, *, status: int = 200, **context: object) -> HTMLResponse:
        """Render a page."""
        return self._render(name, here, self._mode(), status, context)

    def problem(self, status: int, title: str, sentence: str) -> HTMLResponse:
        """Render a page that says what is wrong; it asks the database for nothing."""
        context: dict[str, object] = {"title": title, "sentence": sentence}
        return self._render("problem.html", "", Mode(observing=False), status, context)

    def _render(
        self, name: str, here: str, mode: Mode, status: int, context: dict[str, object]
    ) -> HTMLResponse:
        now = self.now()
        text = self._templates.get_template(name).render(
            **context,
            here=here,
            mode=mode,
            version=self._version,
            now=f"{now.astimezone():%H:%M:%S}",
            now_stamp=wording.stamp(now),
            zone=now.astimezone().tzname(),
        )
        return HTMLResponse(text, status_code=status)


def create_app(
    views: Views,
    *,
    heartbeats: Heartbeats,
    version: str,
    mode: Callable[[], Mode],
    free_bytes: Callable[[], int],
    reserve_bytes: int = 0,
    clock: Clock | None = None,
    roles: Sequence[str] = health.ROLES,
) -> ASGIApp:
    """Make the application.

    Parameters
    ----------
    views : Views
        The worklist, to be read.
    heartbeats : callable
        Says when each process was last heard of.
    version : str
        Of ichnode.
    mode : callable
        Says whether the outputs are open.
    free_bytes : callable
        Says how much room is left on the disk of the spool.
    reserve_bytes : int
        With less than this the node refuses new images, and is not well.
    clock : Clock, optional
        What waiting times are measured by.
    roles : sequence of str
        Whose heartbeat is looked for.
    """
    # No generated documentation: its pages would load scripts from elsewhere.
    app = FastAPI(title="ichnode", version=version, docs_url=None, redoc_url=None, openapi_url=None)
    pages = Pages(version, mode, clock or SystemClock())
    _serve_pages(app, views, pages)
    _serve_machines(app, views, heartbeats, free_bytes, reserve_bytes, pages.now, roles)
    _serve_problems(app, pages)
    app.mount("/static", StaticFiles(directory=HERE / "static"))
    return Guard(app)  # around everything, answers to faults included


def _serve_pages(app: FastAPI, views: Views, pages: Pages) -> None:
    @app.get("/")
    def reading_list(offset: Offset = 0) -> HTMLResponse:
        rows = views.reading_list(PAGE + 1, offset)
        more, rows = len(rows) > PAGE, rows[:PAGE]
        tiles, now = lines.tiles(rows, more=more), pages.now()
        return pages.show(
            "list.html",
            "/",
            lines=[lines.line(row, now) for row in rows],
            tiles=tiles,
            urgent=next(tile.count for tile in tiles if tile.band == Band.URGENT.value),
            first=offset == 0,
            newer=max(0, offset - PAGE) if offset else None,
            older=offset + PAGE if more else None,
            missing=absences.banner(views.not_received()),
        )

    @app.get("/studies/{uid}")
    def study(uid: str) -> HTMLResponse:
        story = _story(views, uid)
        now = pages.now()
        return pages.show(
            "study.html",
            "",
            line=lines.line(story.row, now),
            series=[lines.series_line(row) for row in story.series],
            verdicts=[lines.verdict_line(row, now) for row in story.verdicts],
            events=[lines.event_line(row, now) for row in story.events],
        )

    @app.get("/not-analysed")
    def not_analysed() -> HTMLResponse:
        now = pages.now()
        rows = [lines.not_analysed_line(row, now) for row in views.not_analysed(PAGE)]
        return pages.show("not_analysed.html", "/not-analysed", rows=rows)

    @app.get("/not-received")
    def not_received() -> HTMLResponse:
        now, found = pages.now(), views.not_received()
        return pages.show(
            "not_received.html",
            "/not-received",
            rows=[absences.absent_line(row, now) for row in found.rows],
            comparisons=absences.comparison_lines(found, now),
        )

    @app.get("/refusals")
    def refusals() -> HTMLResponse:
        now = pages.now()
        rows = [lines.refusal_line(refusal, now) for refusal in views.refusals(PAGE)]
        return pages.show("refusals.html", "/refusals", rows=rows)


def _serve_machines(
    app: FastAPI,
    views: Views,
    heartbeats: Heartbeats,
    free_bytes: Callable[[], int],
    reserve_bytes: int,
    now: Callable[[], datetime],
    roles: Sequence[str],
) -> None:
    exposition = metrics.Exposition(views, heartbeats, free_bytes, now)

    @app.get("/api/list")
    def list_as_json(limit: Limit = PAGE, offset: Offset = 0) -> JSONResponse:
        rows = views.reading_list(limit, offset)
        return JSONResponse(facts.of_list(rows, offset, now()))

    @app.get("/api/studies/{uid}")
    def study_as_json(uid: str) -> JSONResponse:
        return JSONResponse(facts.of_story(_story(views, uid)))

    @app.get("/healthz")
    def healthz() -> JSONResponse:
        found = health.examine(views, heartbeats, free_bytes, reserve_bytes, now(), roles)
        return JSONResponse(found.as_json(), status_code=200 if found.ok else 503)

    @app.get("/metrics")
    def metrics_as_text() -> Response:
        return Response(exposition.text(), media_type=metrics.CONTENT_TYPE)


def _story(views: Views, uid: str) -> StudyStory:
    story = views.study(uid) if is_uid(uid) else None
    if story is None:
        raise HTTPException(404, "No such study is known here.")
    return story


def _serve_problems(app: FastAPI, pages: Pages) -> None:
    def answer(request: Request, status: int, title: str, sentence: str) -> Response:
        if request.url.path.startswith(("/api/", "/healthz", "/metrics")):
            content: dict[str, Any] = {"error": sentence}
            return JSONResponse(content, status_code=status)
        return pages.problem(status, title, sentence)

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> Response:
        title = "Not found" if error.status_code == 404 else "That did not work"
        return answer(request, error.status_code, title, str(error.detail))

    @app.exception_handler(Transient)
    def down(request: Request, error: Transient) -> Response:
        log.warning("page.failed", error=type(error).__name__)
        return answer(request, 503, "The worklist does not answer", "It will be tried again.")
