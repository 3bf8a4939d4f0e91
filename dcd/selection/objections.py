"""What speaks against pool images: near copies of judging images, negatives, untrusted labels."""

from collections.abc import Mapping
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import SelectionConfig, Split
from dcd.index.info import IndexInfo
from dcd.index.read import shared_sample
from dcd.label_noise.pool_agreement import pool_reference
from dcd.label_noise.trust import Judge, clean_head, judge_labels
from dcd.selection.copies import pool_copies
from dcd.selection.filters import UNLIKE
from dcd.selection.leaks import Guard, check_leaks, guard, near_copies
from dcd.selection.refine import unlike_failures
from dcd.selection.trusted_search import Objections, objections
from dcd.splits.split import SplitInfo
from dcd.store import Store

_NOT_JUDGING: tuple[Split, ...] = ("error_sample", "not_like_this")


class Objector:
    """The objections of one selection. What is dear to prepare waits until something needs it.

    tables: schemas.labelled_features of every split.
    """

    def __init__(
        self,
        store: Store,
        index: IndexInfo,
        splits: Mapping[Split, SplitInfo],
        tables: Mapping[Split, pa.Table],
        config: SelectionConfig,
    ):
        self._store, self._index, self._tables, self._config = store, index, tables, config
        self._judging: dict[Split, str] = {
            split: info.id for split, info in splits.items() if split not in _NOT_JUDGING
        }

    @property
    def asks_failures(self) -> bool:
        """Whether the answer for a pool image hangs on what the failures are."""
        return "not_like_this" in self._tables or self._config.asks_classifier

    @property
    def asks_nothing(self) -> bool:
        """Whether no image is ever refused."""
        config = self._config
        return not (self.asks_failures or config.judges_labels or config.leak_distance)

    @property
    def depends_on(self) -> list[object]:
        """What decides the answers of `to_targeted`, unless it asks the failures."""
        return [self._config.min_agreement, *self._guard_depends_on]

    @cached_property
    def guarded(self) -> Guard:
        tables = {str(split): self._tables[split] for split in self._judging}
        return guard(tables, self._config.leak_distance)

    @cached_property
    def pool_copies(self) -> pa.Table:
        """The pool's sample, without vectors, and its near copies of judging images."""
        return pool_copies(self._store, self._index, self._guard_depends_on, lambda: self.guarded)

    def to_targeted(self, rows: pa.Table) -> Objections:
        """Rows: image_id, label, content_hash, embedding."""
        copies = near_copies(rows, self.guarded)
        return self._more(rows, copies, self._config.min_agreement, self._config.min_trust)

    def to_general(self, rows: pa.Table) -> Objections:
        """Rows of `general_candidates`."""
        return self._more(rows, rows["copy_of"].to_pylist(), 0, self._config.general_min_trust)

    def check(self, picks: pa.Table, general: pa.Table | None) -> None:
        """Raises LeakError if a pick judges the model, or is a near copy of what does.

        picks: the targeted ones, image_id, content_hash, embedding. general: of the pool's sample.
        """
        check_leaks(picks, near_copies(picks, self.guarded), self.guarded)
        if general is not None:
            ids = self.pool_copies["image_id"].combine_chunks()
            at = pc.index_in(general["image_id"], value_set=ids)
            check_leaks(general, self.pool_copies["copy_of"].take(at).to_pylist(), self.guarded)

    def general_candidates(self) -> pa.Table:
        """`pool_copies`, with vectors only if an objection needs them."""
        rows = self.pool_copies
        if "not_like_this" in self._tables or self._config.general_min_trust > 0:
            vectors = shared_sample(self._store, self._index)["embedding"]
            rows = rows.append_column("embedding", vectors)
        return rows

    @property
    def _guard_depends_on(self) -> list[object]:
        return [self._config.leak_distance, sorted(self._judging.items())]

    @cached_property
    def _judge(self) -> Judge:
        head = None
        if self._config.asks_classifier:
            head = clean_head(self._tables["train"], self._tables["error_sample"])
        return judge_labels(pool_reference(self._store, self._index), head)

    def _more(
        self, rows: pa.Table, copies: list[str | None], min_agreement: float, min_trust: float
    ) -> Objections:
        refused = [split and f"nearly an image of {split}" for split in copies]
        negatives = self._tables.get("not_like_this")
        if negatives is not None:
            unlike = unlike_failures(rows, self._tables["error_sample"], negatives)
            refused = [
                old or (UNLIKE if new else None) for old, new in zip(refused, unlike, strict=True)
            ]
        if min_agreement == 0 and min_trust == 0:
            return refused, None
        reasons, agreement = objections(self._judge(rows), min_agreement, min_trust)
        return [old or new for old, new in zip(refused, reasons, strict=True)], agreement
