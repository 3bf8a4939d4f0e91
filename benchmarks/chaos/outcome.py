"""What a store holds in the end, without what differs by design from one run to the next."""

import hashlib
import json
import re
from collections.abc import Mapping

import pyarrow as pa

from dcd.gate.champions import current, history
from dcd.store import Store, keys

# Left out by name. They hold times, or ids that are drawn; the champion is compared by itself.
LEFT_OUT = {
    "results/": "kept results of tasks: they name the version of each object",
    "champions/": "ids and times of changes; compared as the chain of what was in force",
    "champion.json": "the same",
    "failures/announced/": "when failures were announced",
    "failures/covered/": "when a run was finished; compared as run and batches",
    "failures/inbox/": "given from outside",
    "damaged/": "what was set aside; must be empty, compared as a count",
}
# Of Parquet the values are compared: metadata holds times of sources. Columns of times are left out
_TIMES = {"registered", "seen", "etag", "created", "seconds"}
# Of a run: when it was made, and how long its stages took.
_TOLD_WITH_TIMES = re.compile(r"runs/[^/]+/(report\.html|report\.md|card\.json|.*\.svg)$")


def outcome(store: Store) -> dict[str, str]:
    """Return a digest of every object by key, and of what the champion and its history say."""
    found: dict[str, str] = {}
    n_damaged = 0
    for key in store.keys_under(""):
        if key.startswith("damaged/"):
            n_damaged += 1
        if any(key.startswith(part) for part in LEFT_OUT):
            continue
        found[_named(key)] = _digest_of(store, key)
    found["(set aside)"] = str(n_damaged)
    now = current(store)
    found["(champion)"] = "none" if now is None else f"{now.run_id} seed {now.seed}"
    if now is not None:
        for name in (keys.MODEL_WEIGHTS, keys.MODEL_CONFIG):
            found[f"(champion) {name}"] = _digest(store.read_raw(f"{now.model}/{name}"))
    places = [row for row in history(store) if row.place != "never"]
    found["(history)"] = ", ".join(
        f"{row.champion.action} {row.champion.run_id} seed {row.champion.seed}" for row in places
    )
    covered = [store.read_json(k) for k in store.keys_under(keys.covered_failures())]
    found["(covered)"] = json.dumps(sorted([c["run_id"], *c["batches"]] for c in covered))
    return found


def differences(wanted: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Name what is lost, what is there twice or new, and what is different."""
    lost = [f"lost: {key}" for key in sorted(wanted.keys() - found.keys())]
    new = [f"new: {key}" for key in sorted(found.keys() - wanted.keys())]
    both = sorted(wanted.keys() & found.keys())
    return [*lost, *new, *(f"different: {key}" for key in both if wanted[key] != found[key])]


def _named(key: str) -> str:
    """Names that hold a time stand for what they are; several of one kind are counted by value."""
    return re.sub(r"failures/receipts/[^/]+", "failures/receipts/*", key)


def _digest_of(store: Store, key: str) -> str:
    if key.endswith(".parquet"):
        return _digest_of_table(store.read_table(key))
    if _TOLD_WITH_TIMES.match(key):
        store.check(key)
        return "whole"
    if key.endswith(".json"):
        return _digest(json.dumps(store.read_json(key), sort_keys=True).encode())
    return _digest(store.read_raw(key))


def _digest_of_table(table: pa.Table) -> str:
    kept = table.select([name for name in table.column_names if name not in _TIMES])
    kept = kept.replace_schema_metadata(None).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, kept.schema) as writer:
        writer.write_table(kept)
    return _digest(sink.getvalue().to_pybytes())


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=12).hexdigest()
