"""Serve the map of a run as a page to move about in: its points, and the picture of each.

It only reads. Points go to the browser as numbers, eight bytes each; what is known of a point, and
its picture, when somebody asks for it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dcd.errors import ObjectFault
from dcd.maps.draw import read_map
from dcd.report import map_figure
from dcd.report.record import DrawnMap
from dcd.report.thumbnails import thumbnail
from dcd.runs.finished import read_parts, run_config
from dcd.serve.review_desk import failure_sources
from dcd.sources.source import Source, fetch_shown, source_of, sources
from dcd.store import Store, keys

MAP_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
ROLES = tuple(role for role, *_ in map_figure.ROLES)  # in the order in which they are drawn
MAX_SIDE_PX = 320
_MAPS_HELD = 2
_PICTURES_HELD = 512
_HALF = 32767  # a place within -1…1 becomes a whole number within 0…2 * _HALF
_HALF_PERCENTS = 200  # that make 1: so a posterior is told
_NO_POSTERIOR = 255
_GONE = (
    "This run shows no map, or its map is gone: pruned, or taken along with a picture that was "
    "forgotten. Run its config again, with map.max_images above 0."
)

# Fills a template; with its status and its content security policy.
Page = Callable[..., Response]


@dataclass(frozen=True, eq=False)
class _Atlas:
    """A map that is held. packed: `pack` of its points."""

    drawn: DrawnMap
    labels: tuple[str, ...]
    packed: bytes


def map_of_run(store: Store, run_id: str) -> str | None:
    """Return the key of the map that a run shows; None where it has none or it is gone.

    A damaged list of parts hides the map and not the run; `dcd store verify` names it.
    """
    try:
        parts = read_parts(store, keys.run_parts(run_id)) or set()
    except ObjectFault:
        return None
    found = sorted(part for part in parts if part.startswith(f"{keys.MAPS}/"))
    return next((key for key in found if store.exists(key)), None)


def pack(points: pa.Table, labels: Sequence[str]) -> bytes:
    """Turn N points into 8 N bytes: all x, y and labels as 16 bits, then roles, then posteriors.

    Little-endian; a label is its place in `labels`, a posterior a number of half per cents.
    """
    places = [points[name].to_numpy().astype(np.float64) for name in ("x", "y")]
    wide = [np.rint((place.clip(-1, 1) + 1) * _HALF) for place in places]
    wide.append(_codes(points["label"], labels))
    posterior = points["posterior"].to_numpy(zero_copy_only=False).astype(np.float64)
    unknown = points["posterior"].is_null().to_numpy()
    percents = np.where(unknown, _NO_POSTERIOR, np.rint(np.nan_to_num(posterior) * _HALF_PERCENTS))
    narrow = [_codes(points["role"], ROLES), percents]
    return b"".join(
        [*(part.astype("<u2").tobytes() for part in wide),
         *(part.astype("u1").tobytes() for part in narrow)]
    )  # fmt: skip


def map_routes(store: Store, page: Page, name_of: Callable[[str], str]) -> list[Route]:
    """Make the routes below /runs/{run_id}/map. name_of: checks a run id of a URL."""

    @lru_cache(maxsize=_MAPS_HELD)
    def held(key: str) -> _Atlas:
        drawn = read_map(store, key)
        labels = _labels(drawn)
        return _Atlas(drawn, labels, pack(drawn.points, labels))

    @lru_cache(maxsize=_PICTURES_HELD)
    def picture_of(run_id: str, key: str, number: int) -> bytes | None:
        row = held(key).drawn.points.slice(number, 1)
        found = fetch_shown(store, _sources(store, run_id, row["role"][0].as_py()), row)
        data = found.get(row["image_id"][0].as_py())
        return None if data is None else thumbnail(data, MAX_SIDE_PX)

    def asked_for(request: Request) -> tuple[str, str, _Atlas]:
        run_id = name_of(request.path_params["run_id"])
        key = map_of_run(store, run_id)  # looked up each time: it may be forgotten meanwhile
        if key is None:
            raise HTTPException(404, _GONE)
        return run_id, key, held(key)

    def number(request: Request, atlas: _Atlas) -> int:
        wanted = request.path_params["number"]
        if wanted >= atlas.drawn.points.num_rows:
            raise HTTPException(404, "The map has no such point.")
        return wanted

    def shown(request: Request) -> Response:
        run_id, _, atlas = asked_for(request)
        return page(
            "map.html",
            policy=MAP_POLICY,
            here="runs",
            page_class="mapped",
            run_id=run_id,
            drawn=atlas.drawn,
            labels=atlas.labels,
        )

    def described(request: Request) -> Response:
        _, _, atlas = asked_for(request)
        return JSONResponse(
            {
                "n": atlas.drawn.points.num_rows,
                "roles": ROLES,
                "labels": atlas.labels,
                "failing": map_figure.most_failing(atlas.drawn.points),
                "legend": {
                    "shapes": [shape for _, shape, _, _ in map_figure.ROLES],
                    "roles": [colour for _, _, colour, _ in map_figure.ROLES],
                    "labels": [colour for _, colour in map_figure.OF_LABELS],
                    "posteriors": [
                        [_HALF_PERCENTS * least, colour, words]
                        for least, _, colour, words in map_figure.POSTERIORS
                    ],
                },
            }
        )

    def numbers(request: Request) -> Response:
        _, _, atlas = asked_for(request)
        return Response(atlas.packed, media_type="application/octet-stream")

    def point(request: Request) -> Response:
        _, _, atlas = asked_for(request)
        row = atlas.drawn.points.slice(number(request, atlas), 1).to_pylist()[0]
        return JSONResponse(
            {name: row[name] for name in ("image_id", "role", "label", "posterior")}
        )

    def picture(request: Request) -> Response:
        run_id, key, atlas = asked_for(request)
        found = picture_of(run_id, key, number(request, atlas))
        if found is None:
            raise HTTPException(404, "This picture is gone, or cannot be read.")
        return Response(found, media_type="image/webp")

    below = "/runs/{run_id}/map"
    return [
        Route(below, shown),
        Route(f"{below}/described", described),
        Route(f"{below}/numbers", numbers),
        Route(f"{below}/points/{{number:int}}", point),
        Route(f"{below}/pictures/{{number:int}}", picture),
    ]


def _labels(drawn: DrawnMap) -> tuple[str, ...]:
    return tuple(sorted(pc.unique(drawn.points["label"]).to_pylist()))


def _codes(column: pa.ChunkedArray, names: Sequence[str]) -> np.ndarray:
    """The place of every value, (N,); beyond 16 bits the last one stands for the rest."""
    return pc.index_in(column, value_set=pa.array(names, pa.string())).to_numpy().clip(0, 65535)


def _sources(store: Store, run_id: str, role: str) -> list[Source]:
    """Where the pictures of a role are."""
    config = run_config(store, run_id)
    match role:
        case "failure":
            return failure_sources(store, config)
        case "train":
            images = config.train.at_seed(config.seeds[0]).images
            return [source for source in sources(config) if source.data.images == images]
        case _:
            return [source_of(config.pool)]
