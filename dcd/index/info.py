"""Keep index.json: what an index is made of, what it counts, and which indexes a pool has."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from dcd.index.quantizers import Storage
from dcd.store import Store, keys

INDEX_FILES = 5  # of an index, at least: vectors, labels, sample, sources, index.json


@dataclass(frozen=True)
class ListInfo:
    """How a label too large to scan is searched. recall: of the 50 nearest, by lists probed."""

    n_lists: int
    n_probed: int
    n_train: int
    n_heldout: int
    recall: Mapping[str, float]


@dataclass(frozen=True)
class PseudoLabelled:
    """What became of the images without a label, where an index holds some under a found one.

    base: id of the index of the given labels, whose files it shares. Of n_images without a label
    n_labelled got one with a probability of at least min_posterior, n_unsure are less sure, and
    n_known are pictures that the base holds under a given label: the last two are left out.
    """

    base: str
    min_posterior: float
    n_images: int
    n_labelled: int
    n_unsure: int
    n_known: int


@dataclass(frozen=True)
class IndexInfo:
    """A finished index and its counts.

    Of n_images embedded ones, n_unlabelled have no label and n_duplicates rows repeated an image of
    another shard: both are left out. An image with several labels has a row for each:
    n_rows = n_images - n_unlabelled - n_duplicates + n_extra_labels = sum of label_counts.
    segments: the indexes whose files hold the rows, this one last. code_recall: recall@50 of the
    codes against float16, None for float16. explanation: why it is laid out as it is.
    one_image_an_id: no id was found to name two images; False: written before this was looked at.
    pseudo: None where all labels are given ones.
    """

    pool: str
    encoder_id: str
    index_id: str
    dim: int
    n_images: int
    n_rows: int
    n_unlabelled: int
    n_extra_labels: int
    n_duplicates: int
    label_counts: Mapping[str, int]
    segments: tuple[str, ...]
    storage: Storage = "float16"
    code_recall: float | None = None
    lists: Mapping[str, ListInfo] = field(default_factory=dict)
    explanation: str = ""
    one_image_an_id: bool = False
    pseudo: PseudoLabelled | None = None

    @property
    def prefix(self) -> str:
        return keys.index(self.pool, self.encoder_id, self.index_id)

    @property
    def layout_prefix(self) -> str:
        """Where lists.parquet and codec.parquet are: with the first segment."""
        return keys.index(self.pool, self.encoder_id, self.segments[0])


def index_info(store: Store, pool: str, encoder_id: str, index_id: str) -> IndexInfo:
    """Read the counts of a finished index. Raises StoreError if there is none."""
    key = info_key(pool, encoder_id, index_id)
    found = store.read_json(key)
    try:
        found["lists"] = {label: ListInfo(**info) for label, info in found["lists"].items()}
        found["segments"] = tuple(found["segments"])
        if found.get("pseudo") is not None:
            found["pseudo"] = PseudoLabelled(**found["pseudo"])
        return IndexInfo(**found)
    except (KeyError, TypeError, AttributeError) as err:
        raise store.damaged(key, f"does not describe an index ({err!r})") from err


def index_ids(store: Store, pool: str, encoder_id: str) -> list[str]:
    """List the finished indexes of a pool, of this format."""
    found = set(store.keys_under(keys.index(pool, encoder_id, "").rstrip("/")))
    ids = {key.rsplit("/", 2)[-2] for key in found}
    prefixes = {index_id: keys.index(pool, encoder_id, index_id) for index_id in ids}
    return sorted(
        index_id
        for index_id, prefix in prefixes.items()
        if {keys.index_info(prefix), keys.index_sources(prefix)} <= found
    )


def indexes(store: Store, pool: str, encoder_id: str) -> list[IndexInfo]:
    """Read all finished indexes of a pool, of this format."""
    found = index_ids(store, pool, encoder_id)
    return [index_info(store, pool, encoder_id, index_id) for index_id in found]


def write_info(store: Store, info: IndexInfo) -> None:
    """Publish `index.json`: from then on the index is there."""
    store.write_bytes(info_key(info.pool, info.encoder_id, info.index_id), info_text(info))


def of_given_labels(store: Store, index: IndexInfo) -> IndexInfo:
    """Return the index of the given labels alone: the one that pseudo-labels were added to.

    What labels are evidence of, agreement and noise, is asked of it: a pseudo-label was found by
    the given ones around it, and would only say the same again.
    """
    if index.pseudo is None:
        return index
    return index_info(store, index.pool, index.encoder_id, index.pseudo.base)


def info_text(info: IndexInfo) -> bytes:
    document = asdict(info)
    if info.pseudo is None:
        del document["pseudo"]  # as it was before there were any
    return json.dumps(document, indent=1, ensure_ascii=False).encode()


def info_key(pool: str, encoder_id: str, index_id: str) -> str:
    return keys.index_info(keys.index(pool, encoder_id, index_id))
