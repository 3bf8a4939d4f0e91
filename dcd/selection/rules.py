"""Apply the rules of a selection: which pool images it refuses as picks, and why.

An image is refused that is a near copy of one that judges the model, that is more like the user's
negative examples than like a failure, or whose label cannot be trusted: a review says so, or the
pool around it.
"""

from collections.abc import Mapping
from functools import cached_property

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import SelectionConfig, Split
from dcd.index.info import IndexInfo
from dcd.index.read import shared_sample, vectors_of
from dcd.label_noise.agreement import corrected
from dcd.label_noise.pool_agreement import known_votes, pool_reference
from dcd.label_noise.trust import Judge, clean_head, judge_labels
from dcd.selection.copies import copies_of, pool_copies
from dcd.selection.filters import UNLIKE
from dcd.selection.leaks import Guard, check_leaks, guard
from dcd.selection.refine import unlike_failures
from dcd.selection.reviewed import Reviewed, confirmed, read_reviewed, refuse_reviewed
from dcd.selection.trusted_search import Refusals, refuse_untrusted
from dcd.splits.split import SplitInfo, blocked_content
from dcd.store import Store
from dcd.tables.rows import one_row_a_content, without

_NOT_JUDGING: tuple[Split, ...] = ("error_sample", "not_like_this")


class PickRules:
    """What one selection refuses. Whatever is costly to prepare waits until a rule needs it.

    tables: schemas.labelled_features of every split.
    """

    def __init__(
        self,
        store: Store,
        index: IndexInfo,
        splits: Mapping[Split, SplitInfo],
        tables: Mapping[Split, pa.Table],
        config: SelectionConfig,
        reviewed: Reviewed | None = None,
    ):
        self._store, self._index, self._tables, self._config = store, index, tables, config
        self._splits = splits
        self._reviewed_id = None if reviewed is None else reviewed.id
        self._judging: dict[Split, str] = {
            split: info.id for split, info in splits.items() if split not in _NOT_JUDGING
        }

    @property
    def is_empty(self) -> bool:
        """Whether no image is ever refused."""
        config = self._config
        asks = self.depends_on_failures or config.judges_labels or config.leak_distance
        return not asks and self._reviewed_id is None

    @property
    def depends_on_failures(self) -> bool:
        """Whether a pool image may be refused for some failures and not for others."""
        return "not_like_this" in self._tables or self._config.asks_classifier

    @property
    def targeted_depends_on(self) -> list[object]:
        """What decides the answers of `for_targeted`, where they do not depend on the failures."""
        of_reviews = [] if self._reviewed_id is None else [self._reviewed_id]
        return [self._config.min_agreement, *self._guard_depends_on, *of_reviews]

    def for_targeted(self, rows: pa.Table) -> Refusals:
        """Judge rows as picks for failures: image_id, label, content_hash, embedding."""
        config = self._config
        return self._judged(rows, self.copies_of(rows), config.min_agreement, config.min_trust)

    def for_general(self, rows: pa.Table) -> Refusals:
        """Judge rows of `general_candidates` as images of the general sample."""
        copies = rows["copy_of"].to_pylist()
        return self._judged(rows, copies, 0, self._config.general_min_trust)

    def general_candidates(self) -> pa.Table:
        """Give `pool_copies`, with vectors only if a rule needs them."""
        rows = self.pool_copies
        if "not_like_this" in self._tables or self._config.general_min_trust > 0:
            vectors = shared_sample(self._store, self._index)["embedding"]
            rows = rows.append_column("embedding", vectors)
        return rows

    def check(self, picks: pa.Table, general: pa.Table | None) -> None:
        """Raise LeakError if a pick judges the model, or is a near copy of an image that does.

        picks: the targeted ones, image_id, content_hash, embedding. general: of the pool's sample.
        """
        tables = {str(split): self._tables[split] for split in self._judging}
        content = {split: table["content_hash"] for split, table in tables.items()}
        check_leaks(picks, self.copies_of(picks), content)
        if general is not None:
            ids = self.pool_copies["image_id"].combine_chunks()
            at = pc.index_in(general["image_id"], value_set=ids)
            check_leaks(general, self.pool_copies["copy_of"].take(at).to_pylist(), content)

    def copies_of(self, rows: pa.Table) -> list[str | None]:
        """Name the judging split that each row (content_hash, embedding) is a near copy of."""
        depends_on = self._guard_depends_on
        return copies_of(self._store, self._index, depends_on, lambda: self.guarded, rows)

    @cached_property
    def reviewed(self) -> pa.Table | None:
        """schemas.REVIEWED, where reviews count."""
        if self._reviewed_id is None:
            return None
        return read_reviewed(self._store, self._reviewed_id)

    @cached_property
    def true(self) -> pa.Table | None:
        """Rows of schemas.REVIEWED with a true label that train knows, where reviews count.

        Of no image that judges the model, nor of a copy of one.
        """
        if self.reviewed is None:
            return None
        classes = pc.unique(self._tables["train"]["label"])
        found = self.reviewed.filter(pc.is_in(self.reviewed["true_label"], value_set=classes))
        found = without(found, self.blocked)
        labels = pc.unique(found["label"])
        rows = one_row_a_content(vectors_of(self._store, self._index, found["image_id"], labels))
        is_copy = pa.array([of is not None for of in self.copies_of(rows)], pa.bool_())
        return without(found, rows.filter(is_copy))

    @cached_property
    def blocked(self) -> pa.Table:
        """content_hash and reason of the images of the splits: none of them is picked."""
        return blocked_content(self._store, self._splits)

    @cached_property
    def guarded(self) -> Guard:
        """The images of the judging splits, of which no pick may be a copy."""
        tables = {str(split): self._tables[split] for split in self._judging}
        return guard(tables, self._config.leak_distance)

    @cached_property
    def pool_copies(self) -> pa.Table:
        """The pool's sample, without vectors, and its near copies of judging images."""
        return pool_copies(self._store, self._index, self._guard_depends_on, lambda: self.guarded)

    @property
    def _guard_depends_on(self) -> list[object]:
        return [self._config.leak_distance, sorted(self._judging.items())]

    @cached_property
    def _label_judge(self) -> Judge:
        """What people said counts among neighbours' votes, and for the classifier."""
        head, reference = None, pool_reference(self._store, self._index)
        known = known_votes(self._store, self._index)
        if self.reviewed is not None:
            reference, known = corrected(reference, self.reviewed), None
        if self._config.asks_classifier:
            further = [] if self.true is None else [self._verified(self.true)]
            head = clean_head(self._tables["train"], self._tables["error_sample"], *further)
        return judge_labels(reference, head, known)

    def _verified(self, true: pa.Table) -> pa.Table:
        """label and embedding of images with a true label, as the classifier of labels learns them.

        true: as `self.true`.
        """
        labels = pc.unique(true["label"])
        rows = one_row_a_content(vectors_of(self._store, self._index, true["image_id"], labels))
        at = pc.index_in(rows["content_hash"], value_set=true["content_hash"].combine_chunks())
        truth = true["true_label"].combine_chunks().take(at.combine_chunks())
        return pa.table({"label": truth, "embedding": rows["embedding"]})

    def _judged(
        self, rows: pa.Table, copies: list[str | None], min_agreement: float, min_trust: float
    ) -> Refusals:
        """Apply all rules; of several reasons the first stands: a copy, a review, a negative, its
        label. A label that a review confirmed is not judged again.
        """
        refusals = Refusals([f"nearly an image of {of}" if of else None for of in copies])
        if self.reviewed is not None:
            refusals = refusals.then(refuse_reviewed(rows, self.reviewed))
        negatives = self._tables.get("not_like_this")
        if negatives is not None:
            unlike = unlike_failures(rows, self._tables["error_sample"], negatives)
            refusals = refusals.then(Refusals([UNLIKE if one else None for one in unlike]))
        if min_agreement > 0 or min_trust > 0:
            trust = self._label_judge(rows)
            untrusted = refuse_untrusted(trust, min_agreement, min_trust)
            if self.reviewed is not None:
                untrusted = untrusted.without(confirmed(rows, self.reviewed))
            refusals = refusals.then(untrusted)
        return refusals
