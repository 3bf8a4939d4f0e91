"""Draw figures of a comparison as files: SVG charts, PNG sheets of retrieved images."""

import io
from collections import defaultdict
from collections.abc import Sequence

from PIL import Image, ImageDraw

from dcd.evaluation.summary import MethodSummary
from dcd.images.decode import BadImage, decode
from dcd.report import figures
from dcd.report.svg import Size, document, drawing, plain, svg

_PLANE, _LINES = Size(980, 640, 12), Size(672, 403, 13)
_TILE_PX, _GAP_PX, _CAPTION_PX = 64, 4, 14


def trade_off(rows: Sequence[MethodSummary]) -> str:
    """Draw the plane of `figures.trade_off` as an SVG document. One row must be `none`."""
    return figures.picture(rows, _PLANE)


def precision_against_k(points: Sequence[tuple[str, int, float]]) -> str:
    """Draw the share of right labels among the picks against k, (series, k, share), as SVG."""
    series: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for name, k, share in points:
        series[name].append((k, 100 * share))
    with drawing(_LINES, "dcd-precision") as figure:
        figure.set_layout_engine("constrained")
        axes = figure.subplots()
        for name, found in series.items():
            found.sort()
            axes.plot(*zip(*found, strict=True), marker="o", markersize=4, label=name)
        axes.set_xscale("log")
        ticks = sorted({k for _, k, _ in points})
        axes.set_xticks(ticks, [str(k) for k in ticks])
        axes.minorticks_off()
        axes.set_xlabel("k, nearest images per failure")
        axes.set_ylabel("right labels among picks, %")
        axes.legend(frameon=False)
        plain(axes)
        described = f"right labels among picks against k: {', '.join(series)}"
        return document(svg(figure, described))


def sheet(rows: Sequence[tuple[str, bytes | None, Sequence[bytes | None]]]) -> bytes:
    """Draw a PNG of rows (caption, failure, picks): failures at the left, their picks after a gap.

    What is missing or does not decode is a grey tile.
    """
    columns = 2 + max((len(picks) for _, _, picks in rows), default=0)
    row_px = _TILE_PX + _CAPTION_PX + _GAP_PX
    picture = Image.new("RGB", (columns * (_TILE_PX + _GAP_PX), len(rows) * row_px), "white")
    draw = ImageDraw.Draw(picture)
    for i, (caption, failure, picks) in enumerate(rows):
        top = i * row_px
        draw.text((0, top), caption, fill="black")
        for column, data in enumerate([failure, *picks]):
            left = (column + (column > 0)) * (_TILE_PX + _GAP_PX)
            picture.paste(_tile(data), (left, top + _CAPTION_PX))
    sink = io.BytesIO()
    picture.save(sink, "PNG")
    return sink.getvalue()


def _tile(data: bytes | None) -> Image.Image:
    try:
        image = None if data is None else Image.fromarray(decode(data))
    except BadImage:
        image = None
    if image is None:
        return Image.new("RGB", (_TILE_PX, _TILE_PX), "#bbb")
    return image.resize((_TILE_PX, _TILE_PX), Image.Resampling.BICUBIC)
