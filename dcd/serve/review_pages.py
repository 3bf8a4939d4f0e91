"""Serve the review pages: who holds the token may decide, everybody else may only look.

The token is in the address that `dcd serve --review` prints, and from then on in a cookie that no
script reads and no other site sends. What comes from a browser names an image of the page and a
known label, or is refused with the reason; the rest of it is kept.
"""

import hmac
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn, cast, get_args
from urllib.parse import urlsplit

import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from dcd.config import RunConfig
from dcd.config.explain import closest
from dcd.failures.registry import SOURCE_ID
from dcd.reviews.decisions import Decision, Verb, read_reviews, record
from dcd.reviews.standing import Standing, standing
from dcd.runs.finished import list_runs
from dcd.serve.review_desk import Candidate, Desk, DeskKind, desk_of, selections
from dcd.serve.review_pictures import Pictures
from dcd.store import Store
from dcd.tables.labels import clean_text

log = logging.getLogger(__name__)
REVIEW_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_MAX_BODY_BYTES = 2**20
_DESKS_HELD = 4

# Fills a template; with its status and its content security policy.
Page = Callable[..., Response]


@dataclass(frozen=True)
class ReviewAccess:
    """Who may decide: those who hold the token. config: says where a selection's images are."""

    token: str
    config: RunConfig | None = None

    def __repr__(self) -> str:
        return "ReviewAccess(token=…)"


class Said(BaseModel):
    """One decision as a browser sends it. key: the content of the image in hex."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: str = Field(min_length=8, max_length=64)
    key: str = Field(pattern="^[0-9a-f]{32}$")
    verb: Verb
    to: str | None = None


class Sent(BaseModel):
    """What a browser sends at once."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    reviewer: str = Field(min_length=1, max_length=80)
    decisions: list[Said] = Field(min_length=1, max_length=500)


def review_routes(store: Store, access: ReviewAccess, page: Page) -> list[Route]:
    """Make the routes below /review."""

    @lru_cache(maxsize=_DESKS_HELD)
    def laid_out(kind: DeskKind, name: str) -> tuple[Desk, Pictures]:
        desk = desk_of(store, kind, name, access.config)
        return desk, Pictures(desk)

    def asked_for(request: Request) -> tuple[Desk, Pictures]:
        _check_token(request, access.token)
        kind = request.path_params["kind"]
        if kind not in get_args(DeskKind):
            raise HTTPException(404, "There is no such page.")
        return laid_out(cast(DeskKind, kind), request.path_params["name"])

    def enter(request: Request) -> Response:
        return _enter(request, access.token)

    def home(request: Request) -> Response:
        _check_token(request, access.token)
        return page(
            "review_home.html",
            here="review",
            runs=list_runs(store)[:50],
            selections=selections(store),
            n_decisions=read_reviews(store).num_rows,
        )

    def desk(request: Request) -> Response:
        laid, _ = asked_for(request)
        return page("review.html", policy=REVIEW_POLICY, here="review", desk=laid)

    def items(request: Request) -> Response:
        laid, _ = asked_for(request)
        return JSONResponse(_as_json(laid) | {"standing": _standing_of(store, laid)})

    def stands(request: Request) -> Response:
        laid, _ = asked_for(request)
        return JSONResponse(_standing_of(store, laid))

    def picture(request: Request) -> Response:
        _, pictures = asked_for(request)
        of = {"pick": pictures.of_candidate, "failure": pictures.of_failure}
        origin, _, key = request.path_params["picture"].partition("-")
        found = of[origin](key) if origin in of else None
        if found is None:
            raise HTTPException(404, "This picture is gone, or cannot be read.")
        # Content never changes under its hash; a failure's place may, when the server is new.
        held = "private, max-age=3600" if origin == "pick" else "no-store"
        return Response(found, media_type="image/webp", headers={"Cache-Control": held})

    async def decide(request: Request) -> Response:
        sent = await _read_sent(request, access.token)
        laid, _ = await run_in_threadpool(asked_for, request)
        return JSONResponse(await run_in_threadpool(_keep, store, laid, sent))

    return [
        Route("/review", home),
        Route("/review/enter", enter),
        Route("/review/{kind}/{name}", desk),
        Route("/review/{kind}/{name}/items", items),
        Route("/review/{kind}/{name}/standing", stands),
        Route("/review/{kind}/{name}/pictures/{picture}", picture),
        Route("/review/{kind}/{name}/decisions", decide, methods=["POST"]),
    ]


def _enter(request: Request, token: str) -> Response:
    if not hmac.compare_digest(request.query_params.get("token", "").encode(), token.encode()):
        _refuse(request)
    answer = RedirectResponse("/review", 303)
    answer.set_cookie(
        _cookie(request),
        token,
        path="/review",
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return answer


def _check_token(request: Request, token: str) -> None:
    """Raise HTTPException 403 for who does not hold the token."""
    given = request.cookies.get(_cookie(request), "")
    if not hmac.compare_digest(given.encode(), token.encode()):
        _refuse(request)


def _refuse(request: Request) -> NoReturn:
    host = request.client.host if request.client else "unknown"
    log.warning("review: refused %s, who gave no token or a wrong one", host)
    raise HTTPException(403, "Open the address that dcd serve --review printed: it has the token.")


def _cookie(request: Request) -> str:
    """Cookies are shared by all ports of a host, and a token belongs to one server."""
    return f"dcd_review_{request.url.port or 0}"


async def _read_sent(request: Request, token: str) -> Sent:
    """What a page of ours sent. HTTPException 403 for other sites and wrong tokens, 4xx for bad."""
    origin = request.headers.get("origin")
    site = request.headers.get("sec-fetch-site", "same-origin")
    if site != "same-origin" or (
        origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    ):
        log.warning("review: refused a request from another site")
        raise HTTPException(403, "Decisions are taken from this server's own pages only.")
    _check_token(request, token)
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise HTTPException(415, "Expected JSON.")
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _MAX_BODY_BYTES:
            raise HTTPException(413, "Too many decisions at once.")
    try:
        return Sent.model_validate_json(body)
    except ValidationError as err:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in err.errors()[:3])
        raise HTTPException(422, f"These are no decisions: {faults}") from err


def _keep(store: Store, desk: Desk, sent: Sent) -> dict[str, Any]:
    """Record what can be taken; say of every decision whether it is kept, or why not."""
    candidates, kept, refused = desk.by_content, [], []
    reviewer = clean_text(sent.reviewer) or "nobody"
    for said in sent.decisions:
        why = _why_not(said, candidates.get(said.key), desk.classes)
        if why is not None:
            refused.append({"id": said.id, "key": said.key, "why": why})
            continue
        of = candidates[said.key]
        kept.append(
            Decision(
                said.id,
                reviewer,
                desk.pool,
                of.image_id,
                of.content_hash,
                of.label,
                said.verb,
                said.to if said.verb == "relabel" else None,
            )
        )
    if kept:
        latest = pc.max(read_reviews(store)["decided"]).as_py()
        record(store, kept, latest)
    return {
        "kept": [decision.id for decision in kept],
        "refused": refused,
        "standing": _standing_of(store, desk),
    }


def _why_not(said: Said, of: Candidate | None, classes: Sequence[str]) -> str | None:
    """Why a decision cannot be taken; None where it can."""
    if of is None:
        return "this page has no such image"
    if said.verb == "relabel" and said.to not in classes:
        guess = closest(said.to or "", list(classes))
        meant = f" (did you mean {guess!r}?)" if guess else ""
        return f"train has no label {(said.to or '')[:100]!r}{meant}"
    return None


def _standing_of(store: Store, desk: Desk) -> dict[str, dict[str, str | None]]:
    found = standing(read_reviews(store))
    return {key: _stands(found[of.content_hash]) for key, of in desk.by_content.items()
            if of.content_hash in found}  # fmt: skip


def _stands(one: Standing) -> dict[str, str | None]:
    return {"verb": one.verb, "to": one.true_label, "reviewer": one.reviewer,
            "decided": one.decided.isoformat(timespec="seconds")}  # fmt: skip


def _as_json(desk: Desk) -> dict[str, Any]:
    failures: list[Mapping[str, Any]] = [
        {"id": f.image_id, "label": f.label, "predicted": f.predicted, "mode": f.mode}
        for f in desk.failures
    ]
    items = [
        {
            "key": key,
            "id": c.image_id,
            "label": c.label,
            "failure": c.failure,
            "distance": c.distance,
            "rank": c.rank,
            "agreement": c.agreement,
            "queries": c.n_queries,
        }
        for key, c in desk.by_content.items()
    ]
    own = desk.pool == SOURCE_ID
    return {"classes": desk.classes, "failures": failures, "items": items, "areFailures": own}
