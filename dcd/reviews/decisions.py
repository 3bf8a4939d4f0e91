"""Keep the log of what people decided about images: every decision once, none ever changed.

A batch of decisions is one immutable object, named by what it holds, as a batch of registered
failures is. Who sends a batch again, since its answer was lost, writes the same object; a decision
that comes again in another batch has the same id, and counts once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.compute as pc

from dcd.errors import DataError
from dcd.store import Store, keys
from dcd.store.object_log import read_log
from dcd.tables import schemas
from dcd.tables.labels import MAX_LABEL_CHARS

Verb = Literal["accept", "reject", "relabel", "skip", "undo"]
VERBS: tuple[Verb, ...] = get_args(Verb)

_TICK = timedelta(microseconds=1)  # what a timestamp of the log can tell apart
_MAX_NAME_CHARS = 200


@dataclass(frozen=True)
class Decision:
    """What one person said of one image, and under which label it was shown.

    id: made by who sends it, anew for every decision. pool: the source that the image is from.
    true_label: what a relabelled image is; None otherwise. via: the tool it was said in.
    """

    id: str
    reviewer: str
    pool: str
    image_id: str
    content_hash: bytes
    label: str
    verb: Verb
    true_label: str | None = None
    via: str = "browser"

    def __post_init__(self) -> None:
        if self.verb not in VERBS:
            raise DataError(f"review: decision {self.verb!r:.40}; expected one of {list(VERBS)}")
        if (self.verb == "relabel") != bool(self.true_label):
            found = f"{self.verb} of {self.image_id!r:.80} to {self.true_label!r:.80}"
            raise DataError(f"review: {found}; relabel, and nothing else, names the true label")
        for name, text in (("id", self.id), ("reviewer", self.reviewer)):
            if not 0 < len(text) <= _MAX_NAME_CHARS:
                n = len(text)
                raise DataError(f"review: {name} of {n} characters; give 1 to {_MAX_NAME_CHARS}")
        if len(self.true_label or "") > MAX_LABEL_CHARS:
            raise DataError(f"review: a label of more than {MAX_LABEL_CHARS:,} characters")


@dataclass(frozen=True)
class Recorded:
    """A batch that is in the store: its id, the time of its last decision, and if it was before."""

    batch: str
    decided: datetime
    was_there: bool


def record(store: Store, decisions: Sequence[Decision], after: datetime | None = None) -> Recorded:
    """Publish decisions as one object, in their order; when this returns, they are kept.

    after: the latest time among the decisions that their makers had seen. Theirs are later, however
    wrong the clock of this machine is. Raises DataError if there is none.
    """
    if not decisions:
        raise DataError("review: a batch without a decision")
    rows = [
        [d.id, d.reviewer, d.pool, d.content_hash.hex(), d.label, d.verb, d.true_label]
        for d in decisions
    ]
    batch = "r-" + keys.digest(rows, length=16)
    key = keys.review_batch(batch)
    if store.exists(key):
        decided = store.read_table(key, ["decided"])["decided"]
        return Recorded(batch, pc.max(decided).as_py(), was_there=True)
    now = datetime.now(UTC)
    first = now if after is None else max(now, after + _TICK)
    times = [first + i * _TICK for i in range(len(decisions))]
    table = pa.table(
        {
            "decision_id": [d.id for d in decisions],
            "decided": pa.array(times, pa.timestamp("us", "UTC")),
            "reviewer": [d.reviewer for d in decisions],
            "pool": [d.pool for d in decisions],
            "image_id": [d.image_id for d in decisions],
            "content_hash": pa.array([d.content_hash for d in decisions], schemas.CONTENT_HASH),
            "label": [d.label for d in decisions],
            "decision": [d.verb for d in decisions],
            "true_label": pa.array([d.true_label for d in decisions], pa.string()),
            "via": [d.via for d in decisions],
        }
    )
    store.write_table(key, schemas.conform(table, schemas.REVIEWS, key))
    return Recorded(batch, times[-1], was_there=False)


def read_reviews(store: Store) -> pa.Table:
    """Read every decision once, the earliest first: schemas.REVIEWS and `batch`."""
    rows = read_log(store, keys.REVIEW_BATCHES, keys.REVIEWS_VIEW, schemas.REVIEWS, schemas.conform)
    rows = rows.rename_columns([*schemas.REVIEWS.names, "batch"])
    rows = rows.sort_by([(name, "ascending") for name in ("decided", "batch", "decision_id")])
    place = pa.array(range(rows.num_rows), pa.int64())
    first = rows.append_column("place", place).group_by("decision_id", use_threads=False)
    return rows.take(first.aggregate([("place", "min")])["place_min"].sort())
