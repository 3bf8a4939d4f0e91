"""Put what an operator sees of a finished run into the Prefect UI.

Each artifact has a key that starts with the run's name, so the UI keeps its history over runs.
"""

import base64
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import quote

import httpx
from prefect.artifacts import create_image_artifact, create_link_artifact, create_markdown_artifact
from prefect.exceptions import PrefectException

from dcd.evaluation.summary import MethodSummary, Score
from dcd.runs.run import RunInfo
from dcd.store import keys

log = logging.getLogger("dcd.artifacts")
BROWSE_URL = "DCD_BROWSE_URL"  # where `dcd serve` answers, for links that a browser can follow


def publish_run(name: str, info: RunInfo) -> None:
    """Publish metrics, figure and report link. A server that is away costs them, not the run."""
    about = f"{info.run_id}: {info.verdict[0]}" if info.verdict else info.run_id
    attempt(
        lambda: create_markdown_artifact(
            metrics_markdown(info), key=key(name, "metrics"), description=about
        )
    )
    if info.rows:
        attempt(
            lambda: create_image_artifact(
                figure_uri(info.rows), key=key(name, "trade-off"), description=about
            )
        )
    attempt(
        lambda: create_link_artifact(
            report_link(info), info.run_id, key=key(name, "report"), description=about
        )
    )


def key(name: str, what: str) -> str:
    """Make an artifact key: Prefect allows lower-case letters, digits and dashes only."""
    safe = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower())
    return f"{safe.strip('-') or 'run'}-{what}"


def attempt(publish: Callable[[], object]) -> None:
    """Call `publish`; a failure of the server or of the way to it is logged and forgotten."""
    try:
        publish()
    except (httpx.HTTPError, PrefectException, OSError) as err:
        log.warning("an artifact was not published: %s: %s", type(err).__name__, err)


def metrics_markdown(info: RunInfo) -> str:
    """Write verdict and comparison as Markdown; names and values are escaped."""
    lines = [f"## {escaped(info.run_id)}", ""]
    lines += [f"- {escaped(sentence)}" for sentence in (*info.gate, *info.verdict)]
    lines += ["", "| added to train | debug_heldout % | test % | right labels | images added |"]
    lines += ["|---|---:|---:|---:|---:|"]
    lines += [_line(row) for row in info.rows]
    lines += ["", "Mean over seeds, with 95 % intervals.", "", f"Report: `{info.report}`"]
    return "\n".join(lines)


def _line(row: MethodSummary) -> str:
    cells = [
        f"**{escaped(row.method)}**" if row.role == "selected" else escaped(row.method),
        _percent(row.debug_heldout),
        _percent(row.test),
        "–" if row.label_precision is None else f"{100 * row.label_precision:.0f} %",
        "–" if row.n_picks is None else f"{row.n_picks:,.0f}",
    ]
    return f"| {' | '.join(cells)} |"


def _percent(score: Score) -> str:
    found = score.accuracy
    return f"{100 * found.value:.1f} ({100 * found.low:.1f} to {100 * found.high:.1f})"


def escaped(text: str) -> str:
    """Return text that Markdown shows as it is: names of modes and runs come from users' data."""
    for char in "\\`*_[]|~#":
        text = text.replace(char, f"\\{char}")
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")


def figure_uri(rows: Sequence[MethodSummary]) -> str:
    """Return the trade-off figure as a data URI: no place is needed that a browser cannot reach."""
    from dcd.report import figures  # imports matplotlib

    svg = figures.picture(rows)
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"


def report_link(info: RunInfo) -> str:
    """Link to the report: on `dcd serve` where DCD_BROWSE_URL names it, else where it lies."""
    if base := os.environ.get(BROWSE_URL):
        return f"{base.rstrip('/')}/{quote(keys.run_report(info.run_id))}"
    return info.report if "://" in info.report else Path(info.report).absolute().as_uri()
