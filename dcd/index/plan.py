"""Decide before a row is read whether an index is there, is appended to, or is built."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from dcd.config import IndexConfig
from dcd.index.info import INDEX_FILES, IndexInfo, index_ids, index_info, info_key
from dcd.store import Store, keys
from dcd.store.requests import BYTES_READ, FOUND, MISSED, Requests, listing_requests

# Raised whenever the same embeddings would give other files. 4: pages of vectors follow from the
# row groups alone, the sample holds vectors as bytes. An index of 3 has the same rows and lists.
_INDEX_FORMAT = 4
_FORMATS_AS_GOOD = (3,)
_MAX_SEGMENTS = 8  # a label costs a read or more in each
_MIN_APPEND_RATIO = 2  # an index this many times larger than what is new is appended to


@dataclass(frozen=True)
class Sources:
    """What an index is made of. recipe: labels and settings; shards: (name, identity), by name.

    older_recipes: what `recipe` was in formats whose indexes are as good; not written down.
    """

    recipe: str
    shards: tuple[tuple[str, str], ...]
    older_recipes: tuple[str, ...] = ()

    @property
    def index_id(self) -> str:
        """The id of an index that is built from them as one whole."""
        return keys.digest(self.recipe, self.shards)

    def document(self) -> dict[str, object]:
        """Return what `sources.json` holds."""
        return {"recipe": self.recipe, "shards": self.shards}


@dataclass(frozen=True)
class IndexPlan:
    """What `build_index` will do. base: the index that is there, or that is appended to.

    requests: what finding it out sends to an object store, now and by `build_index`.
    """

    work: Literal["none", "append", "build"]
    base: IndexInfo | None
    requests: Requests


def sources_of(
    pool: str,
    encoder_id: str,
    shards: Sequence[tuple[str, str]],
    labels: pa.Table | None,
    config: IndexConfig,
) -> Sources:
    """Bring what an index is made of together.

    labels: as `distinct_labels` gives them. shards: (name, identity), by name.
    """
    content = None if labels is None else keys.table_digest(labels)
    settings = config.model_dump(mode="json", exclude={"max_memory_bytes"})
    recipe, *older = (
        keys.digest("index", number, pool, encoder_id, content, settings)
        for number in (_INDEX_FORMAT, *_FORMATS_AS_GOOD)
    )
    return Sources(recipe, tuple(shards), tuple(older))


def distinct_labels(labels: pa.Table) -> pa.Table:
    """Keep key and label without nulls or repeats, sorted: equal labels give equal digests."""
    key = "image_id" if "image_id" in labels.column_names else "weak_label"
    pairs = labels.select([key, "label"]).drop_null()
    distinct = pairs.group_by([key, "label"], use_threads=False).aggregate([])
    return distinct.sort_by([(key, "ascending"), ("label", "ascending")])


def plan_index(
    store: Store, pool: str, encoder_id: str, sources: Sources, n_images: int, compact: bool
) -> IndexPlan:
    """Decide whether an index is there, is appended to, or is built anew.

    n_images: embedded ones, of all the shards of `sources`.
    """
    index_id = sources.index_id
    if store.exists(info_key(pool, encoder_id, index_id)):
        there = index_info(store, pool, encoder_id, index_id)
        return IndexPlan("none", there, FOUND + BYTES_READ)
    if compact:
        return IndexPlan("build", None, MISSED)
    ids = index_ids(store, pool, encoder_id)
    bases = _bases(store, pool, encoder_id, ids, sources)
    listed = listing_requests(len(ids) * INDEX_FILES)
    requests = MISSED + listed + BYTES_READ * (len(ids) + len(bases))
    if not bases:
        return IndexPlan("build", None, requests)
    best = max(bases, key=lambda info: (info.n_images, -len(info.segments), info.index_id))
    if n_images == best.n_images:
        return IndexPlan("none", best, requests)
    small = _MIN_APPEND_RATIO * (n_images - best.n_images) <= best.n_images
    if small and len(best.segments) < _MAX_SEGMENTS:
        return IndexPlan("append", best, requests)
    return IndexPlan("build", None, requests)


def read_sources(store: Store, prefix: str) -> Sources:
    key = keys.index_sources(prefix)
    try:
        found = store.read_json(key)
        shards = tuple((name, identity) for name, identity in found["shards"])
        return Sources(found["recipe"], shards)
    except (KeyError, TypeError, ValueError) as err:
        raise store.damaged(key, f"does not say what the index was made of ({err!r})") from err


def _bases(
    store: Store, pool: str, encoder_id: str, ids: Sequence[str], sources: Sources
) -> list[IndexInfo]:
    """The indexes of the same recipe that hold some of the shards, and no others."""
    wanted = set(sources.shards)
    recipes = {sources.recipe, *sources.older_recipes}
    bases = []
    for found_id in ids:
        found = read_sources(store, keys.index(pool, encoder_id, found_id))
        if found.recipe in recipes and set(found.shards) <= wanted:
            bases.append(index_info(store, pool, encoder_id, found_id))
    return bases
