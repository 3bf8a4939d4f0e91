"""Pick the images of one round, over one store: more neighbours of what still fails."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import SelectionConfig, Sharing, Split
from dcd.index.info import IndexInfo
from dcd.index.read import pool_rows
from dcd.rounds.budget import take
from dcd.selection.filters import LEFT, TAKEN
from dcd.selection.reviewed import FAILING, Reviewed
from dcd.selection.select import (
    Case,
    SelectionInfo,
    complete,
    deciding,
    open_lpips_of,
    ordered,
    read_case,
)
from dcd.selection.trusted_search import Refusals, trusted_neighbors
from dcd.sources.source import Source
from dcd.splits.split import SplitInfo
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.tables.rows import with_column

# Raised whenever a round's output would change for the same inputs.
_ROUND_FORMAT = 1
_PAIR = ["error_image_id", "image_id"]


@dataclass(frozen=True)
class RoundPlan:
    """What decides a round's picks beside data and settings: its number (1…) and its budget.

    before: id of the selection of the round before; cell: id of the cell that was trained on it,
    which knows what still fails. None in the first round, which asks for every failure.
    """

    number: int
    n_images: int
    sharing: Sharing
    before: str | None = None
    cell: str | None = None


@dataclass(frozen=True)
class RoundPicks:
    """What one round took. info: the selection of all picks so far, as a cell is trained on it.

    n_asked: failures that were still wrong; n_new, n_taken: images of this round and of all so far.
    """

    number: int
    info: SelectionInfo
    n_asked: int
    n_new: int
    n_taken: int


def pick_round(
    store: Store,
    pool: Source,
    index: IndexInfo,
    splits: Mapping[Split, SplitInfo],
    config: SelectionConfig,
    plan: RoundPlan,
    reviewed: Reviewed | None = None,
) -> RoundPicks:
    """Choose the images of a round and publish its selection and ledger, unless they are there.

    The selection holds all picks so far; its ledger (schemas.LEDGER) says which round took which
    image for which failure. Raises what `dcd.selection.select.select` raises.
    """
    lpips = open_lpips_of(config, splits["error_sample"].n_images)
    decided = deciding(index, splits, config, lpips, reviewed)
    parts = [plan.number, plan.n_images, plan.sharing, plan.before, plan.cell]
    round_id = keys.digest("round", _ROUND_FORMAT, *decided, *parts)
    picks_key = keys.selection_picks(round_id)
    reused = store.exists(picks_key)
    if not reused:
        case = read_case(store, pool, index, splits, config, lpips, reviewed)
        asking = _asking(case, plan)
        found = _found(case, config, asking, plan)
        ledger, neighbors = _took(store, case, plan, found)
        rows = pool_rows(store, index, pc.unique(neighbors["label"]))
        chosen = complete(case, neighbors, rows, config)
        described = {
            "config": config.model_dump_json(),
            "index_id": index.index_id,
            "error_sample_weight": repr(chosen.weighted.error_sample_weight),
            "n_asked": str(asking.num_rows),
        }
        store.write_table(keys.selection_ledger(round_id), ledger, metadata=described)
        store.write_table(keys.selection_neighbors(round_id), chosen.neighbors, metadata=described)
        store.write_table(picks_key, chosen.weighted.picks, metadata=described)
    return _read(store, round_id, splits["error_sample"].n_images, plan, reviewed, reused)


def read_ledger(store: Store, round_id: str) -> pa.Table:
    """Read what was taken up to a round: schemas.LEDGER."""
    table = store.read_table(keys.selection_ledger(round_id))
    return schemas.conform(table, schemas.LEDGER, "ledger").replace_schema_metadata(None)


def _read(
    store: Store,
    round_id: str,
    n_failures: int,
    plan: RoundPlan,
    reviewed: Reviewed | None,
    reused: bool,
) -> RoundPicks:
    picks = store.read_table(keys.selection_picks(round_id), ["role"])
    described = store.read_metadata(keys.selection_picks(round_id))
    roles = picks["role"].to_pylist()
    ledger = read_ledger(store, round_id)
    of_round = ledger.filter(pc.equal(ledger["round"], plan.number))
    n_new, n_taken = (pc.count_distinct(t["content_hash"]).as_py() for t in (of_round, ledger))
    info = SelectionInfo(
        round_id,
        n_failures,
        picks.num_rows,
        reused,
        roles.count("general"),
        n_new / plan.n_images if plan.n_images else 0.0,
        float(described["error_sample_weight"]),
        None if reviewed is None else reviewed.id,
        roles.count("reviewed") + roles.count(FAILING),
        roles.count(FAILING),
    )
    return RoundPicks(plan.number, info, int(described["n_asked"]), n_new, n_taken)


def _ledger_before(store: Store, plan: RoundPlan) -> pa.Table:
    if plan.before is None:
        return schemas.LEDGER.empty_table()
    return read_ledger(store, plan.before)


def _asking(case: Case, plan: RoundPlan) -> pa.Table:
    """The failures that are still wrong by models that did not see them."""
    failures = case.tables["error_sample"]
    if plan.cell is None:
        return failures
    answers = case.store.read_table(keys.cell_out_of_fold(plan.cell))
    wrong = answers["image_id"].filter(pc.invert(answers["right"]))
    return failures.filter(pc.is_in(failures["image_id"], value_set=wrong))


def _found(case: Case, config: SelectionConfig, asking: pa.Table, plan: RoundPlan) -> pa.Table:
    """Search for more neighbours; what an earlier round took is refused, and says which did."""
    if asking.num_rows == 0 or plan.n_images == 0:
        return schemas.NEIGHBORS.empty_table()
    ledger = _ledger_before(case.store, plan)
    by_content = dict(
        zip(ledger["content_hash"].to_pylist(), ledger["round"].to_pylist(), strict=True)
    )

    def rule(rows: pa.Table) -> Refusals:
        taken = [by_content.get(content) for content in rows["content_hash"].to_pylist()]
        words = [None if one is None else f"{TAKEN} {one}" for one in taken]
        return Refusals(words).then(case.rules.for_targeted(rows))

    found = trusted_neighbors(
        case.store, case.index, asking, case.blocked, config.searched, rule, config.max_depth
    )
    rows = pool_rows(case.store, case.index, pc.unique(found["label"]))
    return ordered(case, found, rows, config)


def _took(store: Store, case: Case, plan: RoundPlan, found: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The ledger with this round's images, and the neighbours of all rounds so far."""
    rows = pool_rows(store, case.index, pc.unique(found["label"]))
    at = pc.index_in(found["image_id"], value_set=rows["image_id"].combine_chunks())
    hashed = found.append_column("content_hash", rows["content_hash"].take(at))
    contents = take(hashed.filter(hashed["kept"]), plan.n_images, plan.sharing)
    is_taken = pc.and_(hashed["kept"], pc.is_in(hashed["content_hash"], value_set=contents))
    taken = hashed.filter(is_taken)
    number = pa.repeat(pa.scalar(plan.number, pa.int32()), taken.num_rows)
    fresh = schemas.conform(taken.append_column("round", number), schemas.LEDGER, "ledger")
    left = pc.and_(found["kept"], pc.invert(is_taken))
    reasons = pc.if_else(left, pa.scalar(LEFT), found["reason"])
    now = with_column(with_column(found, "kept", is_taken), "reason", reasons)
    if plan.before is None:
        return fresh, now
    earlier = store.read_table(keys.selection_neighbors(plan.before))
    ledger = pa.concat_tables([read_ledger(store, plan.before), fresh])
    return ledger, _merged(earlier.replace_schema_metadata(None), now)


def _merged(earlier: pa.Table, now: pa.Table) -> pa.Table:
    """One row a pair of failure and image: as it was taken, else as it was last seen."""
    kept = earlier.filter(earlier["kept"])
    now = now.select(earlier.column_names) if now.num_rows else earlier.slice(0, 0)
    fresh = now.join(kept.select(_PAIR), _PAIR, join_type="left anti")
    rest = earlier.filter(pc.invert(earlier["kept"]))
    unseen = rest.join(now.select(_PAIR), _PAIR, join_type="left anti")
    every = pa.concat_tables([kept, *(t.select(earlier.column_names).cast(earlier.schema)
                                      for t in (fresh, unseen))])  # fmt: skip
    return every.sort_by([("error_image_id", "ascending"), ("rank", "ascending")])
