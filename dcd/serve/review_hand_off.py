"""Hand a desk's images to annotators in another tool, and take their answers as decisions."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from dcd.errors import DataError
from dcd.images.decode import BadImage, decode
from dcd.reviews.decisions import Decision, read_reviews, record
from dcd.reviews.formats import csv_table, cvat, fiftyone, label_studio
from dcd.reviews.hand_off import (
    Answer,
    Asked,
    Judged,
    Tool,
    check_classes,
    contradictions,
    judged,
)
from dcd.reviews.standing import standing
from dcd.serve.review_desk import Candidate, Desk
from dcd.store import Store, keys

TOOLS: Mapping[Tool, ModuleType] = {
    "label-studio": label_studio,
    "cvat": cvat,
    "fiftyone": fiftyone,
    "csv": csv_table,
}
Only = Literal["all", "undecided", "skipped"]

# Where Label Studio serves files of its own disk; the folder is its document root.
_URL_PREFIX: Mapping[Tool, str] = {"label-studio": "/data/local-files/?d="}
_JPEG_QUALITY = 92
_ZIP = b"PK\3\4"
_AT_ONCE = 256  # encoded images held at once: bounds memory
_BATCH = 2000  # decisions in one object


@dataclass(frozen=True)
class HandedOff:
    """What was written. gone: ids of images whose picture is gone or cannot be read: left out."""

    n_images: int
    gone: tuple[str, ...]
    files: tuple[str, ...]


@dataclass(frozen=True)
class TakenBack:
    """What became of the answers: n_new are decisions now, n_known were before.

    refused: those that cannot be taken, and why.
    """

    n_new: int
    n_known: int
    refused: tuple[str, ...]


def hand_off(
    store: Store, desk: Desk, tool: Tool, folder: Path, url_prefix: str | None, only: Only = "all"
) -> HandedOff:
    """Write a desk's pictures and the tool's files into a new folder.

    url_prefix: of the pictures' addresses; "embed" puts Label Studio's pictures into the tasks.
    only: images without a decision, or those that somebody skipped. Raises DataError if the folder
    holds something, or a class has the name that annotators use for none.
    """
    check_classes(desk.classes)
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder}: is not empty; give a new folder")
    wanted = _wanted(store, desk, only)
    pictures = folder / ("data" if tool == "fiftyone" else "images")
    pictures.mkdir(parents=True)
    prefix = _URL_PREFIX.get(tool, "") if url_prefix is None else url_prefix
    asked: list[Asked] = []
    gone: list[str] = []
    for one, pixels in _pixels(desk, wanted):
        if pixels is None:
            gone.append(one.image_id)
            continue
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "JPEG", quality=_JPEG_QUALITY)
        path = pictures / f"{one.content_hash.hex()}.jpg"
        path.write_bytes(encoded.getvalue())
        file = f"{pictures.name}/{path.name}"
        url = f"{prefix}{file}"
        if prefix == "embed":
            url = f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}"
        asked.append(_asked(desk, one, file, url, (pixels.shape[1], pixels.shape[0])))
    files = TOOLS[tool].written(asked, desk.classes)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return HandedOff(len(asked), tuple(gone), tuple(files))


def take_back(store: Store, desk: Desk, tool: Tool, data: bytes, place: str) -> TakenBack:
    """Record the answers of a tool's export as decisions; what cannot be taken is named.

    An answer that was taken before counts once, however often its file comes. Raises DataError if
    `data` is no export of the tool.
    """
    if data.startswith(_ZIP):  # as CVAT's exports are
        raise DataError(f"{place}: is a ZIP; unpack it and give the file of annotations in it")
    answers: list[Answer] = TOOLS[tool].answers(data, place)
    candidates = desk.by_content
    labels = {key: of.label for key, of in candidates.items()}
    reviews = read_reviews(store)
    said = _said_before(reviews)
    known = set(reviews["decision_id"].to_pylist())
    fresh: list[Decision] = []
    refused: list[str] = []
    n_known = 0
    torn = contradictions(answers)
    refused += torn.values()
    for answer in answers:
        if (answer.key, answer.reviewer) in torn:
            continue
        found = judged(answer, labels, desk.classes)
        if isinstance(found, str):
            refused.append(found)
            continue
        decision = _decision(desk, candidates[answer.key], found, tool, said)
        if decision.id in known:
            n_known += 1
            continue
        known.add(decision.id)
        said.setdefault((answer.key, decision.reviewer), []).append(_outcome(decision))
        fresh.append(decision)
    latest = pc.max(reviews["decided"]).as_py()
    for start in range(0, len(fresh), _BATCH):
        latest = record(store, fresh[start : start + _BATCH], latest).decided
    return TakenBack(len(fresh), n_known, tuple(refused))


# What a reviewer said of an image so far, by its content in hex and the reviewer.
_Said = dict[tuple[str, str], list[tuple[str, str | None]]]


def _said_before(reviews: pa.Table) -> _Said:
    said: _Said = {}
    for row in reviews.to_pylist():
        outcome = (row["decision"], row["true_label"])
        said.setdefault((row["content_hash"].hex(), row["reviewer"]), []).append(outcome)
    return said


def _decision(desk: Desk, of: Candidate, found: Judged, tool: Tool, said: _Said) -> Decision:
    """The answer as a decision, whose id is the same whenever the same answer comes."""
    answer = found.answer
    reviewer = answer.reviewer[:200]
    outcome = (found.verb, found.true_label)
    # A tool without times: the same words are a new answer only after other ones.
    others = [one for one in said.get((answer.key, reviewer), []) if one != outcome]
    stamp = answer.stamp or len(others)
    number = keys.digest(tool, answer.key, reviewer, list(outcome), stamp, length=32)
    return Decision(
        number, reviewer, desk.pool, of.image_id, of.content_hash, of.label,
        found.verb, found.true_label, tool,
    )  # fmt: skip


def _outcome(decision: Decision) -> tuple[str, str | None]:
    return decision.verb, decision.true_label


def _wanted(store: Store, desk: Desk, only: Only) -> list[Candidate]:
    if only == "all":
        return list(desk.candidates)
    found = standing(read_reviews(store))
    of = {c.content_hash: found.get(c.content_hash) for c in desk.candidates}
    if only == "undecided":
        return [c for c in desk.candidates if of[c.content_hash] is None]
    return [c for c in desk.candidates if (s := of[c.content_hash]) and s.verb == "skip"]


def _pixels(
    desk: Desk, wanted: Sequence[Candidate]
) -> Iterator[tuple[Candidate, np.ndarray | None]]:
    """Each image with its pixels (H, W, 3) uint8; None where the picture is gone or damaged."""
    for start in range(0, len(wanted), _AT_ONCE):
        batch = wanted[start : start + _AT_ONCE]
        rows = {"image_id": [c.image_id for c in batch], "shard": [c.shard for c in batch]}
        images = desk.fetch_candidates(pa.table(rows))
        for one in batch:
            try:
                yield one, decode(images[one.image_id])
            except (KeyError, BadImage):
                yield one, None


def _asked(desk: Desk, of: Candidate, file: str, url: str, size: tuple[int, int]) -> Asked:
    failure = None if of.failure is None else desk.failures[of.failure].image_id
    return Asked(
        key=of.content_hash.hex(),
        image_id=of.image_id,
        label=of.label,
        file=file,
        url=url,
        width=size[0],
        height=size[1],
        distance=of.distance,
        agreement=of.agreement,
        failure=failure,
    )
