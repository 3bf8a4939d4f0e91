"""What a store holds in the end, without what differs by design from one run to the next."""

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping

import pyarrow as pa

from dcd.gate.champions import Champion, current, history
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
# Of Parquet the values are compared, for metadata holds times; columns of times are left out.
_TIMES = {"registered", "seen", "decided", "etag", "created", "seconds"}
# Of a run: when it was made, and how long its stages took.
_TOLD_WITH_TIMES = re.compile(r"runs/\*/(report\.html|card\.(json|md)|.*\.svg)$")
# A batch of failures says when it was registered, and what is made of it has ids that say so too:
# objects are compared by their kind and value, whatever their ids.
_IDS_IN_KEYS = re.compile(
    r"^(cells|selections|splits|runs|evaluations|maps|neighbors|heads|noise|failures/receipts)/[^/.]+"
)
_IDS_IN_JSON = re.compile(r"\b[0-9a-f]{12}\b|\b\d{8}T\d+-[0-9a-f]{6}\b")


def outcome(store: Store) -> dict[str, str]:
    """Return digests of all objects by kind, and of what the champion and its history say."""
    found: dict[str, list[str]] = defaultdict(list)
    n_damaged = 0
    for key in store.keys_under(""):
        if key.startswith("damaged/"):
            n_damaged += 1
        if any(key.startswith(part) for part in LEFT_OUT):
            continue
        name = _IDS_IN_KEYS.sub(r"\1/*", key)
        found[name].append(_digest_of(store, key, name))
    told = {name: " ".join(sorted(digests)) for name, digests in found.items()}
    told["(set aside)"] = str(n_damaged)
    now = current(store)
    told["(champion)"] = "none" if now is None else _model(store, now)
    told["(history)"] = ", ".join(
        f"{row.champion.action} {_model(store, row.champion)}"
        for row in history(store)
        if row.place != "never"
    )
    covered = [store.read_json(k) for k in store.keys_under(keys.covered_failures())]
    told["(covered)"] = _without_ids(sorted([c["run_id"], *c["batches"]] for c in covered))
    return told


def _model(store: Store, champion: Champion) -> str:
    weights = store.read_raw(f"{champion.model}/{keys.MODEL_WEIGHTS}")
    return f"model {_digest(weights)} seed {champion.seed}"


def differences(wanted: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Name what is lost, what is there twice or new, and what is different."""
    lost = [f"lost: {key}" for key in sorted(wanted.keys() - found.keys())]
    new = [f"new: {key}" for key in sorted(found.keys() - wanted.keys())]
    both = sorted(wanted.keys() & found.keys())
    unlike = [
        f"different: {key}: {wanted[key]} is {found[key]}"
        for key in both
        if wanted[key] != found[key]
    ]
    return [*lost, *new, *unlike]


def _digest_of(store: Store, key: str, name: str) -> str:
    if key.endswith(".parquet"):
        return _digest_of_table(store.read_table(key))
    if _TOLD_WITH_TIMES.match(name):
        store.check(key)
        return "whole"
    if key.endswith(".json"):
        text = _without_ids(store.read_json(key))
        return text if key.endswith("gate.json") else _digest(text.encode())
    return _digest(store.read_raw(key))


def _without_ids(document: object) -> str:
    return _IDS_IN_JSON.sub("*", json.dumps(document, sort_keys=True))


def _digest_of_table(table: pa.Table) -> str:
    kept = table.select([name for name in table.column_names if name not in _TIMES])
    kept = kept.replace_schema_metadata(None).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, kept.schema) as writer:
        writer.write_table(kept)
    return _digest(sink.getvalue().to_pybytes())


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=12).hexdigest()
