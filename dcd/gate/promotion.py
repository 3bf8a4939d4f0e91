"""Promote by hand: what the gate did not let pass needs to be forced."""

from dcd.errors import DataError, GateRefused
from dcd.gate import champions
from dcd.gate.champions import Champion
from dcd.gate.record import GateRecord, read_record
from dcd.store import Store, keys


def promote_by_hand(store: Store, run_id: str, seed: int | None, force: bool) -> Champion:
    """Make a run's model the champion.

    seed: default is that of the gate's candidate, else the first one saved. Raises DataError if
    the run has no such model, GateRefused if the gate did not let it pass against the champion of
    now, unless `force`.
    """
    seeds = champions.model_seeds(store, run_id)
    if not seeds:
        raise DataError(
            f"{store.uri(keys.run(run_id, ''))}: no saved model there; name a run of this store "
            "(its report stands below runs/)"
        )
    record = read_record(store, run_id)
    if seed is None:
        seed = seeds[0] if record is None or record.seed is None else record.seed
    if seed not in seeds:
        raise DataError(f"{run_id}: has models of the seeds {seeds}, none of {seed}")
    now = champions.current(store)
    if now is not None and (now.run_id, now.seed) == (run_id, seed):
        return now
    objection = _objection(record, seed, now)
    if objection and not force:
        raise GateRefused(f"{run_id} (seed {seed}): {objection}; add --force to promote it anyway")
    reasons = (
        (f"By force: {objection}.",)
        if objection
        else (record.reasons if record is not None else ())
    )
    return champions.promote(store, run_id, seed, reasons, None if now is None else now.id)


def _objection(record: GateRecord | None, seed: int, now: Champion | None) -> str | None:
    if record is None or record.outcome == "not_judged":
        return "the gate has not judged it"
    if seed != record.seed:
        return f"the gate judged the model of seed {record.seed}"
    if record.outcome == "refused":
        return f"the gate refused it ({' '.join(record.reasons)})"
    if record.champion != (None if now is None else now.id):
        return "it passed against another champion than that of now"
    return None
