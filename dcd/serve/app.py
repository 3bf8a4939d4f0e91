"""Serve a small web page over a store: runs, reports, champions, failures, refusals.

It only reads: only GET, only objects whose keys this module makes itself from checked names; no
session, no request to anywhere else, and script on the page of the map alone. It knows no users:
bind it to the loopback, or put a proxy that asks for a password in front of it. What writes, the
review, is in `dcd.serve.review_pages`, and only there if it is asked for.
"""

import logging
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dcd.errors import DCDError, ObjectNotFound
from dcd.failures.registry import read_registry
from dcd.gate import champions
from dcd.report.page import page_environment, style_sheet
from dcd.runs.finished import find_run, list_runs
from dcd.serve import browse
from dcd.serve.map_pages import map_of_run, map_routes
from dcd.serve.review_pages import ReviewAccess, review_routes
from dcd.serve.shared_looks import SharedLooks
from dcd.store import Store, keys

log = logging.getLogger(__name__)
Endpoint = Callable[[Request], Response]

# What may be fetched of a run, and as what.
RUN_FILES = {
    "report.html": "text/html; charset=utf-8",
    "card.md": "text/plain; charset=utf-8",
    "card.json": "application/json",
    "config.json": "application/json",
    "gate.json": "application/json",
}
_TEMPLATES = Path(__file__).parent / "templates"
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
_POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

# The report names the hash of its own style sheet in a policy of its own; both hold.
_REPORT_POLICY = _POLICY.replace("style-src 'self'", "style-src 'unsafe-inline'")
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def create_app(
    store: Store,
    hosts: tuple[str, ...] = LOOPBACK,
    review: ReviewAccess | None = None,
    fresh_s: float = 0.0,
) -> Starlette:
    """Make the pages of a store. hosts: the host names that requests may name ('*': any).

    review: who may decide about images; None: nobody, and nothing is ever written. fresh_s: how old
    the lists of runs, failures, refusals and champions may be, for many readers.
    """
    # Long, since every page is a closure over the store; each is short and reads by itself.
    templates = page_environment(_TEMPLATES)
    templates.globals["has_review"] = review is not None
    looks = SharedLooks(fresh_s)

    def page(name: str, status: int = 200, policy: str = _POLICY, **values: Any) -> Response:
        html = templates.get_template(name).render(store=store.url, **values)
        return _secured(HTMLResponse(html, status), policy)

    def home(request: Request) -> Response:
        entries = list_runs(store)
        champion, damage = browse.champion_or_damage(store)
        return page(
            "home.html",
            here="runs",
            champion=champion,
            champion_damage=damage,
            n_waiting=browse.waiting(store),
            runs=browse.view_runs(store, entries[: browse.MAX_RUNS]),
            n_runs=len(entries),
        )

    def run(request: Request) -> Response:
        run_id = _name(request.path_params["run_id"])
        entry = find_run(store, run_id)
        if entry is None:
            raise HTTPException(404, f"There is no run {run_id}.")
        files = [name for name in RUN_FILES if store.exists(keys.run(run_id, name))]
        return page(
            "run.html",
            here="runs",
            run=browse.view_run(store, entry),
            files=files,
            has_map=map_of_run(store, run_id) is not None,
        )

    def run_file(request: Request) -> Response:
        run_id, name = _name(request.path_params["run_id"]), request.path_params["name"]
        if name not in RUN_FILES:
            raise HTTPException(404, "There is no such file.")
        data = _read(store, keys.run(run_id, name))
        policy = _REPORT_POLICY if name == "report.html" else _POLICY
        return _secured(Response(data, media_type=RUN_FILES[name]), policy)

    def failures(request: Request) -> Response:
        registry = read_registry(store)
        return page(
            "failures.html",
            here="failures",
            batches=browse.view_batches(store, registry),
            n_batches=len(set(registry.failures["batch"].to_pylist())),
            n_failures=registry.failures.num_rows,
        )

    def rejects(request: Request) -> Response:
        registry = read_registry(store)
        rows = browse.refusals(registry)
        return page("rejects.html", here="rejects", rows=rows)

    def history(request: Request) -> Response:
        return page("champions.html", here="champions", rows=champions.history(store))

    def style(request: Request) -> Response:
        own = (_TEMPLATES / "serve.css").read_text(encoding="utf-8")
        return _secured(Response(f"{style_sheet()[0]}\n{own}", media_type="text/css"))

    def own_file(request: Request) -> Response:
        name = request.url.path.removeprefix("/")
        kind = {".js": "text/javascript", ".css": "text/css"}[Path(name).suffix]
        return _secured(Response((_TEMPLATES / name).read_bytes(), media_type=kind))

    def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return page("error.html", error.status_code, here="", message=error.detail)

    def failed(request: Request, error: Exception) -> Response:
        status = 404 if isinstance(error, ObjectNotFound) else 503
        return page("error.html", status, here="", message=str(error))

    def broken(request: Request, error: Exception) -> Response:
        log.exception("a page failed", exc_info=error)
        return page("error.html", 500, here="", message="This page failed; see the server's log.")

    routes: list[tuple[str, Endpoint]] = [
        ("/", _shared(looks, home)),
        ("/runs/{run_id}", run),
        ("/runs/{run_id}/{name}", run_file),
        ("/failures", _shared(looks, failures)),
        ("/rejects", _shared(looks, rejects)),
        ("/champions", _shared(looks, history)),
        ("/style.css", style),
        ("/map.js", own_file),
        ("/map.css", own_file),
    ]
    if review is not None:
        routes += [("/review.js", own_file), ("/review.css", own_file)]
    of_review = [] if review is None else review_routes(store, review, page)
    return Starlette(
        routes=[
            *map_routes(store, page, _name),
            *(Route(path, endpoint) for path, endpoint in routes),
            *of_review,
        ],
        middleware=[
            Middleware(_SecuredAnswers),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts)),
        ],
        exception_handlers={HTTPException: refused, DCDError: failed, Exception: broken},
    )


def _shared(looks: SharedLooks, endpoint: Endpoint) -> Endpoint:
    """Share a page that is the same for whoever asks."""
    return lambda request: looks.get(request.url.path, partial(endpoint, request))


class _SecuredAnswers:
    """Gives every answer the headers that pages have, also those of the framework."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, secured)


def _name(text: str) -> str:
    """A run id from a URL. HTTPException 404 for what can be none."""
    if not _NAME.fullmatch(text):
        raise HTTPException(404, "There is no such run.")
    return text


def _read(store: Store, key: str) -> bytes:
    """An object; 404 for a link that leads out of a local store."""
    if store.is_local and not Path(store.path(key)).resolve().is_relative_to(
        Path(store.root).resolve()
    ):
        raise HTTPException(404, "There is no such file.")
    return store.read_bytes(key)


def _secured(response: Response, policy: str = _POLICY) -> Response:
    response.headers.update({**_HEADERS, "Content-Security-Policy": policy})
    return response
