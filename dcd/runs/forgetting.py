"""Take a picture out of everything that a store derived, mark the models that saw it, block it.

Tables lose its rows, also those that only name its id. What cannot lose a row, or was made with it,
goes as a whole and is made again without it when a run asks for it: indexes, searches, kept heads,
cells. A report that may show it is replaced by a note. The picture's own files are the user's: they
are not looked for and not touched, and neither is the inbox.
"""

import json
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from dcd.embeddings.embed import forgotten_reject
from dcd.errors import DataError
from dcd.progress import live
from dcd.runs.finished import read_parts
from dcd.store import Store, keys
from dcd.store.forgotten import block
from dcd.store.parts import part_of
from dcd.store.requests import REQUESTS_AT_ONCE
from dcd.tables import schemas

Fate = Literal["loses rows", "is deleted", "is replaced"]

# Whatever was made with the picture is made again without it: these if they hold it, and these
# always, since they do not tell what they were made with.
_MADE_AGAIN = ("neighbors", "lpips", "reviewed", "evaluations", keys.MAPS)
_SILENT = ("copies", "heads", "noise", keys.DAMAGED)

# Nothing is trained on these: a picture that is merely there has touched no model.
_UNLEARNT = (f"{keys.INDEXES}/", f"{keys.MAPS}/")
_ID_COLUMNS = ("image_id", "error_image_id")
_NOT_DERIVED = (f"{keys.FAILURES_INBOX}/", f"{keys.FORGOTTEN}/", f"{keys.PROBES}/")
_STUB = (
    "<!DOCTYPE html><html lang='en'><meta charset='utf-8'><title>Withdrawn</title><p>This report "
    "may have shown a picture that was forgotten at somebody's request. Run its config again to "
    "write it anew.</p></html>"
)


@dataclass(frozen=True)
class Pictures:
    """What is to be forgotten: contents (blake2b-128), and all ids under which they stand.

    n_shared: of these ids those that name other pictures too, whose rows go as well from tables
    that know ids alone.
    """

    contents: frozenset[bytes]
    ids: frozenset[str]
    n_shared: int = 0


@dataclass(frozen=True)
class Holder:
    """An object that holds a picture or was made with it, and what becomes of it."""

    key: str
    fate: Fate
    n_rows: int = 0


@dataclass(frozen=True)
class Forgetting:
    """What forgetting would do. runs: whose models saw the pictures, or were judged by them."""

    pictures: Pictures
    holders: tuple[Holder, ...]
    runs: tuple[str, ...]


def find_pictures(store: Store, wanted: Sequence[str]) -> Pictures:
    """Find what is meant by files, content hashes in hex, or image ids.

    Raises DataError for an id that the store does not know, or that names several pictures.
    """
    contents_of = _contents_by_id(store)
    contents: set[bytes] = set()
    for one in wanted:
        found = contents_of.get(one, set())
        if Path(one).is_file():
            contents.add(schemas.content_hash(Path(one).read_bytes()))
        elif len(found) == 1:
            contents |= found
        elif found:
            listed = ", ".join(sorted(content.hex() for content in found))
            raise DataError(
                f"{one!r:.100}: names {len(found)} pictures; say which by its file or content: "
                f"{listed}"
            )
        elif len(one) == 32 and set(one) <= set("0123456789abcdef"):
            contents.add(bytes.fromhex(one))
        else:
            raise DataError(f"{one!r:.100}: no file, and no image of {store.url} has this id")
    ids = {i for i, of in contents_of.items() if of & contents}
    shared = [i for i in ids if contents_of[i] - contents]
    return Pictures(frozenset(contents), frozenset(ids | {c.hex() for c in contents}), len(shared))


def plan_forgetting(store: Store, pictures: Pictures) -> Forgetting:
    """Look through every object of the store; changes nothing. It costs reading all tables once."""
    every = [key for key in store.keys_under("") if not key.startswith(_NOT_DERIVED)]
    with (
        live.stage("search", len(every), "objects") as stage,
        ThreadPoolExecutor(REQUESTS_AT_ONCE) as readers,
    ):
        found = stage.each(readers.map(lambda k: _count(store, k, pictures), every))
        counts = dict(zip(every, found, strict=True))
    holding = {key for key, n in counts.items() if n}
    held_parts = {part for key in holding if (part := part_of(key)) is not None}
    runs = {run for run in _runs(every) if _saw(store, run, holding, held_parts)}
    gone = _gone(store, every, holding, held_parts, runs) if holding else set()
    holders = [Holder(key, "is deleted", counts[key]) for key in sorted(gone)]
    for key in sorted(holding - gone):
        holders.append(Holder(key, "loses rows", counts[key]))
    reports = [keys.run_report(run) for run in sorted(runs) if keys.run_report(run) in counts]
    holders += [Holder(key, "is replaced") for key in reports]
    return Forgetting(pictures, tuple(holders), tuple(sorted(runs)))


def forget(store: Store, planned: Forgetting) -> None:
    """Do it. The pictures are blocked first, so that one who is killed may simply start again."""
    block(store, planned.pictures.contents)
    with (
        live.stage("forget", len(planned.holders), "objects") as stage,
        ThreadPoolExecutor(REQUESTS_AT_ONCE) as requests,
    ):
        done = requests.map(lambda holder: _apply(store, holder, planned.pictures), planned.holders)
        list(stage.each(done))
    note = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "n_pictures": len(planned.pictures.contents),
        "why": "the models of this run saw pictures that were forgotten later, or were judged by "
        "them; train them anew by running the config again",
    }
    for run in planned.runs:
        store.write_json(keys.run(run, "forgotten.json"), note)


def _contents_by_id(store: Store) -> dict[str, set[bytes]]:
    """The contents under every id that a table with both columns names."""
    folders = ("embeddings", "splits", "hashes", keys.FAILURE_BATCHES, keys.REVIEW_BATCHES)
    found = [k for folder in folders for k in store.keys_under(folder) if k.endswith(".parquet")]
    columns = ["image_id", "content_hash"]
    contents: dict[str, set[bytes]] = {}
    with (
        live.stage("read ids", len(found), "tables") as stage,
        ThreadPoolExecutor(REQUESTS_AT_ONCE) as readers,
    ):
        for table in stage.each(readers.map(lambda key: store.read_table(key, columns), found)):
            pairs = zip(*(table[name].to_pylist() for name in columns), strict=True)
            for image_id, content in pairs:
                contents.setdefault(image_id, set()).add(content)
    return contents


def _count(store: Store, key: str, pictures: Pictures) -> int:
    """How many rows of a table, or places of a card, name a picture; other objects name none."""
    if _is_card(key):
        return _without_in_card(store.read_json(key), pictures)[1]
    if key.endswith(".parquet"):
        schema = store.read_schema(key)
        names = [field.name for field in schema if _tells(field)]
        mask = _mask(store.read_table(key, names), pictures) if names else None
        return 0 if mask is None else int(pc.sum(mask).as_py() or 0)
    return 0


def _is_id(field: pa.Field) -> bool:
    return pa.types.is_string(field.type) and field.name in _ID_COLUMNS


def _tells(field: pa.Field) -> bool:
    return _is_id(field) or field.type == schemas.CONTENT_HASH


def _mask(table: pa.Table, pictures: Pictures) -> pa.ChunkedArray | None:
    """Which rows name a picture, by id or content; None where no column could."""
    found = None
    for field in table.schema:
        if not _tells(field):
            continue
        wanted: Collection = pictures.ids if _is_id(field) else pictures.contents
        here = pc.is_in(table[field.name], value_set=pa.array(sorted(wanted), field.type))
        found = here if found is None else pc.or_(found, here)
    return found


def _runs(every: Collection[str]) -> set[str]:
    return {key.split("/")[1] for key in every if key.startswith(f"{keys.RUNS}/")}


def _parts_of(store: Store, run: str) -> set[str]:
    return read_parts(store, keys.run_parts(run)) or set()


def _saw(store: Store, run: str, holding: set[str], held_parts: set[str]) -> bool:
    prefix = f"{keys.RUNS}/{run}/"
    return any(key.startswith(prefix) for key in holding) or bool(
        {part for part in _parts_of(store, run) & held_parts if not part.startswith(_UNLEARNT)}
    )


def _gone(
    store: Store, every: Sequence[str], holding: set[str], held_parts: set[str], runs: set[str]
) -> set[str]:
    """What goes as a whole: indexes, caches, and cells that were made with the picture."""
    parts = {part for part in held_parts if part.startswith(("cells/", "selections/"))}
    if any(part.startswith("splits/") for part in held_parts):
        for run in runs:  # which cell used which split is known of whole runs
            parts |= {part for part in _parts_of(store, run) if part.startswith("cells/")}
    indexes = {key.split("/")[1] for key in holding if key.startswith(f"{keys.INDEXES}/")}
    gone = set()
    for key in every:
        folder = key.partition("/")[0]
        of_index = folder == keys.INDEXES and key.split("/")[1] in indexes
        is_cached = folder in _SILENT or (folder in _MADE_AGAIN and key in holding)
        if of_index or is_cached or part_of(key) in parts:
            gone.add(key)
    return gone


def _apply(store: Store, holder: Holder, pictures: Pictures) -> None:
    match holder.fate:
        case "is deleted":
            store.delete(holder.key)
        case "is replaced":
            store.write_bytes(holder.key, _STUB.encode())
        case "loses rows":
            _drop_rows(store, holder.key, pictures)


def _is_card(key: str) -> bool:
    return key.startswith(f"{keys.RUNS}/") and key == keys.run_card(key.split("/")[1])


def _without_in_card(card: dict[str, Any], pictures: Pictures) -> tuple[dict[str, Any], int]:
    """A run's card without the pictures, and how often it named one: by what the pool lacks for
    failures, and by the picks that came without a label.
    """
    n = 0
    lacks, guessed = card.get("pool_lacks"), card.get("pseudo_labels")
    if lacks is not None:
        gaps = []
        for gap in lacks["gaps"]:
            failures = [i for i in gap["failures"] if i not in pictures.ids]
            n += len(gap["failures"]) - len(failures)
            gaps.append({**gap, "failures": failures})
        card = {**card, "pool_lacks": {**lacks, "gaps": gaps}}
    if guessed is not None:
        picks = [pick for pick in guessed["picks"] if pick["image_id"] not in pictures.ids]
        n += len(guessed["picks"]) - len(picks)
        card = {**card, "pseudo_labels": {**guessed, "picks": picks}}
    return card, n


def _drop_rows(store: Store, key: str, pictures: Pictures) -> None:
    """Write a table or card without the pictures; the counts in a table's footer stay true."""
    if _is_card(key):
        store.write_json(key, _without_in_card(store.read_json(key), pictures)[0])
        return
    table = store.read_table(key)
    mask = _mask(table, pictures)
    assert mask is not None
    kept = table.filter(pc.invert(mask))
    n = table.num_rows - kept.num_rows
    described = store.read_metadata(key)
    if key.startswith("embeddings/"):
        described = _noted_as_rejects(store, key, n, described)
    elif "n_images" in described and not key.startswith("rejects/"):
        described = {**described, "n_images": str(int(described["n_images"]) - n)}
        if "n_labelled" in described:
            described["n_labelled"] = str(int(described["n_labelled"]) - n)
    store.write_table(key, kept, metadata=described)


def _noted_as_rejects(store: Store, key: str, n: int, described: dict[str, str]) -> dict[str, str]:
    """Every image of a shard is embedded or rejected: these are rejected now, without a name."""
    counts = {
        "n_embedded": str(int(described["n_embedded"]) - n),
        "n_rejected": str(int(described["n_rejected"]) + n),
    }
    described = {**described, **counts}
    rejects_key = f"rejects/{key.partition('/')[2]}"
    rejects = store.read_table(rejects_key).replace_schema_metadata(None)
    reject = forgotten_reject()
    added = {"image_id": [reject.image_id] * n, "stage": [reject.stage] * n,
             "reason": [reject.reason] * n}  # fmt: skip
    every = pa.concat_tables([rejects, pa.table(added, schema=rejects.schema)])
    store.write_table(rejects_key, every, metadata=described)
    return described


def as_json(planned: Forgetting) -> str:
    """Write what was found and done as a report for the one who asked: it names no picture."""
    return json.dumps(
        {
            "n_pictures": len(planned.pictures.contents),
            "objects": [
                {"object": one.key, "what": one.fate, "rows": one.n_rows} for one in planned.holders
            ],
            "models_that_saw_them": list(planned.runs),
        },
        indent=1,
    )
