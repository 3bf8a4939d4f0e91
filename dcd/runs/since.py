"""Compare a run with the champion's: figures then and now, new failures, new picks."""

import logging

import pyarrow as pa
import pyarrow.compute as pc

from dcd.config import Split
from dcd.errors import CountMismatch, DataError, ObjectNotFound, ObjectUnreadable
from dcd.evaluation.stats import over_seeds
from dcd.evaluation.summary import difference, outcomes
from dcd.gate import champions
from dcd.report.record import Change, RunRecord, Since
from dcd.store import Store, keys

log = logging.getLogger(__name__)


def since_champion(store: Store, record: RunRecord, picks: pa.Table) -> Since | None:
    """Compare with the champion's run; None without a champion, or if it comes from this very run.

    picks: schemas.DEBUG_TRAIN of the first seed.
    """
    champion = champions.current(store)
    if champion is None or champion.run_id == record.run_id:
        return None
    try:
        then = store.read_table(keys.run_table(champion.run_id, "predictions"))
        old_failures = store.read_table(keys.run_table(champion.run_id, "error_sample"))
        old_picks = store.read_table(keys.run_table(champion.run_id, "debug_train"), ["image_id"])
    except ObjectNotFound:  # somebody deleted the run; its model may live on
        return None
    except ObjectUnreadable as err:
        log.warning("no comparison with the champion's run: %s", err)
        return None
    splits: tuple[Split, Split] = ("debug_heldout", "test")
    new = _not_in(record.error_sample["image_id"], old_failures["image_id"])
    fresh = _not_in(picks["image_id"], old_picks["image_id"])
    return Since(
        run_id=champion.run_id,
        promoted=champion.at,
        changes=tuple(_change(then, record.predictions, split) for split in splits),
        n_failures=record.error_sample.num_rows,
        n_new_failures=len(new),
        n_right_before=_n_right(record, "none", new),
        n_right_now=_n_right(record, "selected", new),
        n_picks=picks.num_rows,
        n_new_picks=len(fresh),
        n_left_picks=len(_not_in(old_picks["image_id"], picks["image_id"])),
    )


def _change(then: pa.Table, now: pa.Table, split: Split) -> Change:
    before, after = outcomes(then, "selected", split), outcomes(now, "selected", split)
    try:
        gain = difference(after, before)
    except (CountMismatch, DataError):
        gain = None
    return Change(split, over_seeds(before.correct), over_seeds(after.correct), gain)


def _not_in(ids: pa.ChunkedArray, others: pa.ChunkedArray) -> pa.ChunkedArray:
    return ids.filter(pc.invert(pc.is_in(ids, value_set=others)))


def _n_right(record: RunRecord, model: str, failures: pa.ChunkedArray) -> int:
    rows = record.predictions
    wanted = pc.and_(
        pc.and_(pc.equal(rows["model"], model), pc.equal(rows["seed"], record.config.seeds[0])),
        pc.and_(
            pc.equal(rows["split"], "error_sample"),
            pc.is_in(rows["image_id"], value_set=failures.combine_chunks()),
        ),
    )
    found = rows.filter(wanted)
    return pc.sum(pc.equal(found["label"], found["predicted"])).as_py() or 0
