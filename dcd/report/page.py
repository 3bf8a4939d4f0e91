"""Make one self-contained HTML page about a run: no script, no network, every string escaped.

The page carries its own content security policy: images only from data URIs, and only the one
style sheet whose hash it names. So nothing that a label or an id holds can run or load anything.
"""

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import yaml
from markupsafe import Markup
from rich.filesize import decimal

from dcd.config import RunConfig, SelectionConfig
from dcd.evaluation.pool_gaps import PoolGap
from dcd.evaluation.summary import MethodSummary, mode_rows, summary_rows
from dcd.report import curve_figure, figures, gallery, map_figure
from dcd.report.record import RunRecord, StageCount
from dcd.report.rounds_figure import rounds_curve
from dcd.report.thumbnails import Picture, album
from dcd.report.verdict import verdict_of
from dcd.report.words import change, interval, mode_name, percent, points

MAX_FAILURES = 120
MAX_PICKS = 24
MAX_PICTURE_BYTES = 2_200_000
MAX_REASONS = 30
MAX_OPEN_GROUPS = 12
MAX_CLASSES = 12
MAX_TEXT_CHARS = 120
MAX_GAPS = 12
MAX_PICTURES_OF_A_GAP = 6
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True)
class GapShown:
    """What the pool lacks, and the pictures that stand for it."""

    gap: PoolGap
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class RejectReason:
    """Images rejected for one reason, in one stage; `example` is one of them."""

    stage: str
    reason: str
    n: int
    example: str


def render(
    record: RunRecord, image_bytes: Callable[[Collection[Picture]], Mapping[Picture, bytes]]
) -> str:
    """Make the report of a run as HTML.

    image_bytes: the encoded images of some pictures, asked for a few hundred at a time. One that it
    leaves out, or that does not decode, is shown as a placeholder. Picks beyond the page's
    budget of picture bytes are counted, not shown. The same record gives the same page.
    """
    rows = summary_rows(record.predictions, record.metrics)
    modes = mode_rows(record.predictions)
    planned = gallery.plan_gallery(
        record.error_sample, record.neighbors, MAX_FAILURES, MAX_PICKS, record.posteriors
    )
    gaps = [] if record.gaps is None else [_gap_shown(g) for g in record.gaps.gaps[:MAX_GAPS]]
    lacking = [picture for gap in gaps for picture in gap.pictures]
    wanted = list(dict.fromkeys([*lacking, *gallery.pictures(planned)]))
    pictures = album(wanted, image_bytes, MAX_PICTURE_BYTES)
    rejects = reject_reasons(record)
    return fill_page(
        "report.html",
        record=record,
        rows=rows,
        modes=modes,
        verdict=verdict_of(record, rows, modes),
        about={row.method: describe(row, record.config) for row in rows},
        wide=Markup(figures.trade_off(rows, figures.WIDE)),
        curves=[] if record.curve is None else curve_figure.lines(record.curve),
        rounds_curve=_rounds_curve(record),
        narrow=Markup(figures.trade_off(rows, figures.NARROW)),
        gaps=gaps,
        map_panels=() if record.map is None else map_figure.panels(record.map),
        n_on_map=0 if record.map is None else map_figure.n_drawn(record.map),
        gallery=gallery.within(planned, pictures),
        max_open_groups=MAX_OPEN_GROUPS,
        max_classes=MAX_CLASSES,
        pictures=pictures.uris,
        n_broken=len(pictures.broken),
        rejects=rejects[:MAX_REASONS],
        n_reject_reasons=len(rejects),
        config_yaml=yaml.safe_dump(
            record.config.model_dump(mode="json"), sort_keys=False, allow_unicode=True
        ),
        cost_words=cost_words(record.stages),
    )


def _gap_shown(gap: PoolGap) -> GapShown:
    shown = gap.failures[:MAX_PICTURES_OF_A_GAP]
    return GapShown(gap, tuple(Picture("failure", image_id) for image_id in shown))


def _rounds_curve(record: RunRecord) -> Markup | None:
    rounds = record.rounds
    return None if rounds is None else Markup(rounds_curve(rounds.figures, rounds.chosen))


def describe(row: MethodSummary, config: RunConfig) -> str:
    """Say what a method adds to train, in a few words."""
    compare = config.compare
    match row.method:
        case "none":
            return "the failing model: train alone"
        case "error_sample":
            return "the failures themselves"
        case "random":
            return "as many pool images, drawn at random"
        case "random_in_label":
            return "as many of each label, drawn at random"
        case "whole_pool":
            drawn = compare.whole_pool_max_images
            return (
                "every pool image" if drawn is None else f"{drawn:,} pool images, drawn at random"
            )
        case "filtered_pool":
            least = compare.filtered_pool_min_agreement
            return f"every pool image whose label at least {least:.0%} of its neighbours carry"
        case "low_confidence":
            return "as many pool images, those that the failing model is least sure of"
        case "high_loss":
            return "as many pool images, those with the highest loss under the failing model"
        case "uncertainty":
            measure = {"margin": "least margin", "entropy": "most entropy"}[compare.uncertainty]
            return f"as many pool images, those with the {measure} under the failing model"
        case "unreviewed":
            return "selected, as it is without what people decided"
        case method:
            if method == "selected" and config.goal is not None:
                return f"in rounds, {_describe_selection(config.selection)}"
            return _describe_selection(compare.selections.get(method, config.selection))


def _describe_selection(selection: SelectionConfig) -> str:
    """The parts that are always told, and every other setting that is not the default."""
    parts = [f"nearest in-label pool images: k {selection.k}"]
    if selection.min_agreement:
        parts.append(f"label agreement at least {selection.min_agreement:g}")
    if selection.general_images:
        parts.append(f"a sample of up to {selection.general_images:,} pool images")
    if selection.error_sample_weight:
        parts.append("the failures themselves")
    told = {"k", "min_agreement", "general_images", "error_sample_weight"}
    default = SelectionConfig()
    changed = {name: value for name, value in selection if value != getattr(default, name)}
    if selection.general_images == 0:
        told |= {"general_min_trust", "general_weight"}
    return ", ".join(parts + [f"{n} {value}" for n, value in changed.items() if n not in told])


def reject_reasons(record: RunRecord) -> list[RejectReason]:
    """Count rejected images by stage and reason, the most frequent first."""
    counts: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str], str] = {}
    for row in record.rejects.to_pylist():
        key = row["stage"], row["reason"]
        counts[key] += 1
        where = f"{row['shard']}: {row['image_id']}"
        example[key] = min(example.get(key, where), where)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [RejectReason(*key, n, example[key]) for key, n in ordered]


def cost_words(stages: Sequence[StageCount]) -> str:
    """Say what the run cost, in a sentence."""
    read = [stage for stage in stages if stage.n_bytes is not None]
    n_bytes = sum(stage.n_bytes or 0 for stage in read)
    n_new, n_before = sum(stage.n for stage in read), sum(stage.n_reused for stage in read)
    seconds = sum(stage.seconds or 0 for stage in stages)
    return (
        f"Cost: {n_new:,} images embedded, {decimal(n_bytes)} of images read for it, "
        f"{n_before:,} embedded before; {seconds:,.1f} s in all stages."
    )


def fill_page(template: str, **values: object) -> str:
    """Fill a template of this folder; `css` and `css_hash` are there for `head`."""
    css, css_hash = style_sheet()
    return page_environment().get_template(template).render(values, css=css, css_hash=css_hash)


def style_sheet() -> tuple[Markup, str]:
    """Return the pages' CSS, and its hash for a content security policy."""
    css = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    return Markup(css), base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()


def page_environment(*folders: Path) -> jinja2.Environment:
    """Open the report's templates and those of `folders`, with the filters that pages share.

    Every string is escaped. Of two templates with one name that of `folders` is taken.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, _TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=percent,
        points=points,
        interval=interval,
        change=change,
        mode_name=lambda row: mode_name(row.mode, row.label),
        brief=_brief,
        filesize=decimal,
        distance=_distance,
        capitalize_first=lambda text: text[:1].upper() + text[1:],
        unbroken=lambda text: text.replace(" %", "\u00a0%"),
    )
    return environment


def _brief(text: str, max_chars: int = MAX_TEXT_CHARS) -> str:
    """A text that may be of any length, cut in the middle: the ends tell most."""
    if len(text) <= max_chars:
        return text
    half = max_chars // 2
    return f"{text[:half]}…{text[-half:]}"


def _distance(l2: float) -> str:
    """About three figures, with as many decimals as its neighbours."""
    return f"{l2:.0f}" if l2 >= 100 else f"{l2:.1f}" if l2 >= 10 else f"{l2:.2f}"
