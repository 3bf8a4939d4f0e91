"""Keep the champion: which run's model is trusted now, and which were before.

`champion.json` is complete in itself and replaced in one step, after everything that it points
at. Every change is first noted below `champions/`, in an object that nobody changes again. So a
crash leaves the old champion or the new one, and at worst a note of a change that never was.

Two changes at the same moment: both are noted, and the one that is written last stands. Neither
can leave a mixture. Conditional writes would let the first one stand instead, but not every
object store has them, or keeps its word about them under a race.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

from pydantic import ValidationError

from dcd.config import FrozenModel
from dcd.errors import ChampionChanged, DataError, ObjectNotFound, ObjectUnreadable
from dcd.store import Store, keys

_MODEL_FILES = (keys.MODEL_WEIGHTS, keys.MODEL_CONFIG)
Place = Literal["now", "before", "never"]


class Champion(FrozenModel):
    """One change of the champion, and the model that it put in place.

    Attributes:
        id: the change's own name; they sort by time.
        action: the gate let a model pass, or somebody went back to one.
        at: when, in UTC.
        run_id: the run that made the model.
        seed: which of the run's models it is.
        model: prefix of the model's files in the store.
        card: key of its lineage card.
        classes: in the order of the outputs.
        reasons: why it was put in place, in sentences.
        previous: the change that a rollback returns to.
        replaced: the one it took over from.
    """

    id: str
    action: Literal["promotion", "rollback"]
    at: datetime
    run_id: str
    seed: int
    model: str
    card: str
    classes: tuple[str, ...]
    reasons: tuple[str, ...]
    previous: str | None
    replaced: str | None


@dataclass(frozen=True)
class HistoryRow:
    """A noted change: in force now, before, or never (a crash, or another change beat it)."""

    champion: Champion
    place: Place


def current(store: Store) -> Champion | None:
    """Return the champion; None until the gate let a model pass.

    Raises:
        ObjectUnreadable: champion.json is damaged, or lost: the newest note took over from a
            champion, so there was one. It names that note; nothing is put in force by itself.
    """
    now = _read_current(store)
    if now is not None:
        return now
    note = newest_note(store)
    if note is None or note.replaced is None:  # none yet, or the first promotion was cut off
        return None
    # The note may be younger than the look: then there is a champion by now, since none is removed.
    now = _read_current(store)
    if now is not None:
        return now
    lost = store.damaged(keys.CHAMPION, "no such object, but changes of the champion are noted")
    raise ObjectUnreadable(f"{lost}. {_in_words(note)}", lost.uri)


def _read_current(store: Store) -> Champion | None:
    if not store.exists(keys.CHAMPION):
        return None
    try:
        return _read(store, keys.CHAMPION)
    except ObjectUnreadable as err:
        told = _in_words(newest_note(store))
        raise ObjectUnreadable(f"{err}. {told}", err.uri) from err


def in_force(store: Store, purpose: str) -> Champion:
    """Return the champion, whole. Raises DataError if there is none or a part of it is gone.

    purpose: a verb, of what is to be done with it.
    """
    champion = current(store)
    if champion is None:
        raise DataError(
            f"{store.uri(keys.CHAMPION)}: there is no champion to {purpose}; `dcd run` promotes "
            "what its gate lets pass, `dcd promote RUN` what you name"
        )
    check_whole(store, champion)
    return champion


def before(store: Store, champion: Champion) -> Champion | None:
    """Return the champion that this one took over from when it was promoted; None for the first."""
    if champion.previous is None:
        return None
    return _read(store, keys.champion_change(champion.previous))


def newest_note(store: Store) -> Champion | None:
    """Return the latest noted change that can be read; None if there is none."""
    for key in reversed(store.keys_under(keys.CHAMPION_CHANGES)):
        try:
            return _read(store, key)
        except (ObjectUnreadable, DataError):
            continue
    return None


def mend(store: Store) -> Champion:
    """Put the newest whole note in force, where champion.json is damaged or lost.

    Raises DataError if there is none, or what it points at is gone or damaged.
    """
    note = newest_note(store)
    if note is None:
        raise DataError(f"{store.uri(keys.CHAMPION_CHANGES)}: no whole note of a champion there")
    _check_files(store, note.model, note.card)
    store.write_bytes(keys.CHAMPION, note.model_dump_json(indent=2).encode())
    return note


def _in_words(note: Champion | None) -> str:
    """What the newest whole note says, and how it is put in force."""
    if note is None:
        return f"No note below {keys.CHAMPION_CHANGES}/ is whole"
    return (
        f"The newest whole note is {keys.champion_change(note.id)}: {note.run_id}, seed "
        f"{note.seed}, since {note.at:%Y-%m-%d %H:%M} UTC; `dcd champions --mend` puts it in force"
    )


def promote(
    store: Store, run_id: str, seed: int, reasons: Sequence[str], expected: str | None
) -> Champion:
    """Make a run's model the champion; it stays as it is if it is that model already.

    expected: id of the change that is in force as far as the caller knows, None for no champion.
    Raises ChampionChanged if it is another one, DataError if the run has no such model or card.
    """
    now = current(store)
    if now is not None and (now.run_id, now.seed) == (run_id, seed):
        return now
    found = None if now is None else now.id
    if found != expected:
        raise ChampionChanged(
            f"{store.uri(keys.CHAMPION)}: expected {expected or 'no champion'}, found "
            f"{found or 'none'}: it was changed meanwhile; compare with the champion of now"
        )
    prefix, card = keys.run_model(run_id, seed), keys.run_card(run_id)
    _check_files(store, prefix, card)
    at = datetime.now(UTC)
    return _put(
        store,
        Champion(
            id=_new_id(at),
            action="promotion",
            at=at,
            run_id=run_id,
            seed=seed,
            model=prefix,
            card=card,
            classes=classes_of(store, prefix),
            reasons=tuple(reasons),
            previous=found,
            replaced=found,
        ),
    )


def rollback(store: Store, reason: str = "by hand") -> Champion:
    """Return to the champion before. Raises DataError if there is none, or its model is gone."""
    now = current(store)
    if now is None:
        raise DataError(f"{store.uri(keys.CHAMPION)}: there is no champion to roll back")
    back = before(store, now)
    if back is None:
        raise DataError(
            f"{store.uri(keys.CHAMPION)}: {now.run_id} (seed {now.seed}) is the first champion; "
            "there is none before it to return to"
        )
    _check_files(store, back.model, back.card)
    at = datetime.now(UTC)
    changed = {"id": _new_id(at), "action": "rollback", "at": at}
    return _put(
        store, back.model_copy(update={**changed, "reasons": (reason,), "replaced": now.id})
    )


def check_whole(store: Store, champion: Champion) -> None:
    """Make sure of a champion. Raises DataError if its model or its card was deleted."""
    missing = _missing(store, champion.model, champion.card)
    if missing:
        raise DataError(
            f"{store.uri(missing[0])}: no such object, but {champion.run_id} is the champion; run "
            "its config again, return to the one before with `dcd rollback`, or name another with "
            "`dcd promote RUN --force`"
        )


def history(store: Store) -> tuple[HistoryRow, ...]:
    """Return all changes, the latest first."""
    changes = {
        change.id: change
        for change in (_read(store, key) for key in store.keys_under(keys.CHAMPION_CHANGES))
    }
    now = current(store)
    if now is not None:
        changes.setdefault(now.id, now)
    in_force: set[str] = set()
    at = None if now is None else now.replaced
    while at in changes and at not in in_force:
        in_force.add(at)
        at = changes[at].replaced

    def place(change: Champion) -> Place:
        if now is not None and change.id == now.id:
            return "now"
        return "before" if change.id in in_force else "never"

    ordered = sorted(changes.values(), key=lambda change: change.id, reverse=True)
    return tuple(HistoryRow(change, place(change)) for change in ordered)


def was_rolled_back(store: Store, run_id: str, seed: int) -> bool:
    """Tell whether somebody returned from this model to the one before it."""
    changes = [row.champion for row in history(store)]
    by_id = {change.id: change for change in changes}
    left = [by_id.get(c.replaced or "") for c in changes if c.action == "rollback"]
    return any(c is not None and (c.run_id, c.seed) == (run_id, seed) for c in left)


def model_seeds(store: Store, run_id: str) -> list[int]:
    """Return the seeds whose model a run has saved whole."""
    prefix = f"{keys.run_models(run_id)}/seed"
    files = set(store.keys_under(keys.run_models(run_id)))
    seeds = {key.removeprefix(prefix).partition("/")[0] for key in files if key.startswith(prefix)}
    return sorted(
        int(seed)
        for seed in seeds
        if seed.isdecimal() and all(f"{prefix}{seed}/{name}" in files for name in _MODEL_FILES)
    )


def classes_of(store: Store, prefix: str) -> tuple[str, ...]:
    """Return the classes of a saved model. Raises DataError if its config names none."""
    key = f"{prefix}/{keys.MODEL_CONFIG}"
    try:
        return tuple(store.read_json(key)["label_names"])
    except (KeyError, TypeError) as err:
        raise DataError(f"{store.uri(key)}: names no classes (label_names): {err}") from err


def _new_id(at: datetime) -> str:
    """Ids sort by time."""
    return f"{at:%Y%m%dT%H%M%S%f}-{uuid4().hex[:6]}"


def _put(store: Store, change: Champion) -> Champion:
    data = change.model_dump_json(indent=2).encode()
    store.write_bytes(keys.champion_change(change.id), data)
    store.write_bytes(keys.CHAMPION, data)
    return change


def _files(prefix: str, card: str) -> list[str]:
    return [*(f"{prefix}/{name}" for name in _MODEL_FILES), card]


def _missing(store: Store, prefix: str, card: str) -> list[str]:
    return [key for key in _files(prefix, card) if not store.exists(key)]


def _check_files(store: Store, prefix: str, card: str) -> None:
    missing = _missing(store, prefix, card)
    if missing:
        raise DataError(
            f"{store.uri(missing[0])}: no such object; a champion needs the model and the card of "
            "a finished run: run it again, or name another run or seed"
        )
    for key in _files(prefix, card):
        store.check(key)


def _read(store: Store, key: str) -> Champion:
    try:
        return Champion.model_validate_json(store.read_bytes(key))
    except ObjectNotFound as err:
        raise DataError(f"{store.uri(key)}: no such object; the history was altered") from err
    except ValidationError as err:
        raise store.damaged(
            key,
            f"not a champion's record ({err.error_count()} faults, first: "
            f"{err.errors()[0]['loc']}: {err.errors()[0]['msg']})",
        ) from err
