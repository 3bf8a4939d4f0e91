"""Name the store's objects: the only place that knows a path. Pure functions, config → key.

Derived data is addressed by what made it, so "does the object exist?" answers "is it done?".
"""

import hashlib
import json
import re
from collections.abc import Sequence

import pyarrow as pa
from pydantic import BaseModel

# Raised whenever the same pool would get other agreements.
_AGREEMENT_FORMAT = 1

# Raised whenever the same pool would get another reference.
_REFERENCE_FORMAT = 1


def digest(*parts: object, length: int = 12) -> str:
    """Return a hex digest of JSON-able parts; pydantic models count by their canonical JSON."""
    plain = [
        part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in parts
    ]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()[:length]


def slug(text: str, max_length: int = 48) -> str:
    """Turn `text` into one safe path segment: letters, digits, dot, dash and underscore."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[-max_length:] or "x"


def pool_id(images: str, name: str | None = None) -> str:
    """Name an image source in the store. The same `images` give the same id, in every role."""
    return name or f"{slug(images.rsplit('/', 1)[-1].split('*')[0], 32)}-{digest(images, length=8)}"


def shards(pool: str) -> str:
    return f"pools/{pool}/shards.parquet"


def failed_shards(pool: str, encoder_id: str) -> str:
    """The shards that the latest run could not embed, with reasons, as JSON."""
    return f"pools/{pool}/failed-{encoder_id}.json"


def embeddings(pool: str, encoder_id: str, shard: str) -> str:
    return f"embeddings/{pool}/{encoder_id}/{shard}.parquet"


def embeddings_of(pool: str, encoder_id: str) -> str:
    """Prefix of all embeddings of a pool by one encoder."""
    return f"embeddings/{pool}/{encoder_id}"


def encoders_of(pool: str) -> str:
    """Prefix of a source's embeddings by all encoders."""
    return f"embeddings/{pool}"


def rejects(pool: str, encoder_id: str, shard: str) -> str:
    return f"rejects/{pool}/{encoder_id}/{shard}.parquet"


def index(pool: str, encoder_id: str, index_id: str) -> str:
    """Prefix of an index: `vectors-*.parquet`, what finds rows in them, `index.json` last."""
    return f"index/{pool}/{encoder_id}/{index_id}"


def pool_agreement(pool: str, encoder_id: str, index_id: str) -> str:
    """The label agreement of the index's sample of its pool."""
    return f"{index(pool, encoder_id, index_id)}/agreement-{_AGREEMENT_FORMAT}.parquet"


def pool_reference(pool: str, encoder_id: str, index_id: str) -> str:
    """Prefix of what label agreement looks for neighbours in; `rows.parquet` is written last."""
    return f"{index(pool, encoder_id, index_id)}/reference-{_REFERENCE_FORMAT}"


def pool_copies(pool: str, encoder_id: str, index_id: str, judging: str) -> str:
    """Which images of the index's sample are near copies of judging ones."""
    return f"{index(pool, encoder_id, index_id)}/copies-{judging}.parquet"


def split(split_id: str) -> str:
    """The labelled features of one split."""
    return f"splits/{split_id}.parquet"


def neighbors(neighbors_id: str) -> str:
    """The neighbours of one group of failures."""
    return f"neighbors/{neighbors_id}.parquet"


def lpips(distances_id: str) -> str:
    """LPIPS of the pairs of failures and candidates of some selections."""
    return f"lpips/{distances_id}.parquet"


def head(head_id: str) -> str:
    """A classifier on features that new failures do not change."""
    return f"heads/{head_id}.parquet"


def noise(noise_id: str) -> str:
    """How the labels of a pool are estimated to be wrong."""
    return f"noise/{noise_id}.parquet"


def selection(selection_id: str) -> str:
    """Prefix of a selection: `neighbors.parquet` and, written last, `debug_train.parquet`."""
    return f"selections/{selection_id}"


def cell(cell_id: str) -> str:
    """Prefix of one (method, seed): `picks`, `curve` (.parquet), `model/`; `predictions` last."""
    return f"cells/{cell_id}"


def checkpoint(cell_id: str) -> str:
    """Where the training of a cell stands; deleted when it is done."""
    return f"{cell(cell_id)}/checkpoint.pt"


def run(run_id: str, name: str) -> str:
    """A file of a run: config.json, metrics.parquet, report.html, card.json, model/…"""
    return f"runs/{run_id}/{name}"


def comparison(comparison_id: str, name: str) -> str:
    """A file of a comparison: comparison.md, its tables and figures."""
    return f"comparisons/{comparison_id}/{name}"


def part_of(key: str) -> str | None:
    """Return the cell, selection, index or split that an object belongs to; None for all others.

    Only names that `digest` gives count: a folder of the user's may be called cells too.
    """
    kind, *rest = key.split("/")
    depth = _PART_DEPTH.get(kind)
    if depth is None or len(rest) < depth:
        return None
    if not _DIGEST.fullmatch(rest[depth - 1].removesuffix(".parquet")):
        return None
    return "/".join([kind, *rest[:depth]])


def says_done(part: str) -> str:
    """Return a part's object that is written last: while it is there, the part is whole."""
    last = _WRITTEN_LAST.get(part.partition("/")[0])
    return part if last is None else f"{part}/{last}"


_DIGEST = re.compile("[0-9a-f]{12}")
_PART_DEPTH = {"cells": 1, "index": 3, "selections": 1, "splits": 1}
PART_FOLDERS = tuple(_PART_DEPTH)
_WRITTEN_LAST = {
    "cells": "predictions.parquet",
    "index": "index.json",
    "selections": "debug_train.parquet",
}


def result(task: str, segments: Sequence[str]) -> str:
    """The kept result of a task, as JSON; each segment stands for something it depends on."""
    return "/".join([RESULTS, task, *(slug(segment, 64) for segment in segments)])


def table_digest(table: pa.Table) -> str:
    """Return a digest of a table's rows, in their order; metadata and chunking do not count."""
    bare = table.replace_schema_metadata(None).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, bare.schema) as writer:
        writer.write_table(bare)
    return hashlib.blake2b(sink.getvalue(), digest_size=16).hexdigest()[:12]


def evaluation(evaluation_id: str) -> str:
    """What a champion predicts for the images of a later run."""
    return f"evaluations/{evaluation_id}.parquet"


RESULTS = "results"
CHAMPION = "champion.json"
RUNS = "runs"
COMPARISONS = "comparisons"
PARTS = "parts.json"  # of a run or a comparison: the parts that it is a view of
INDEXES = "index"
CHAMPION_CHANGES = "champions"


def champion_change(change_id: str) -> str:
    """The note of one promotion or rollback; never overwritten."""
    return f"{CHAMPION_CHANGES}/{change_id}.json"


# Failure samples that users report. The inbox is theirs: it is read, never changed.
FAILURES_INBOX = "failures/inbox"
FAILURE_BATCHES = "failures/batches"
FAILURE_RECEIPTS = "failures/receipts"

# What the batches and receipts hold, in one object: saves requests, decides nothing.
FAILURES_VIEW = "failures/registry.parquet"
RECEIPTS_VIEW = "failures/receipts.parquet"


def failure_batch(batch_id: str) -> str:
    """Failures that were registered together, with their images; never changed once written."""
    return f"{FAILURE_BATCHES}/{batch_id}.parquet"


def failure_receipt(receipt_id: str) -> str:
    """Files that were looked through, and what was refused in them; written after the batches."""
    return f"{FAILURE_RECEIPTS}/{receipt_id}.parquet"


def covered_failures(name: str = "", run_id: str = "") -> str:
    """The batches that a finished run covered; a prefix where run id, or name too, are left out."""
    return "/".join(filter(None, ("failures/covered", name, run_id and f"{run_id}.json")))


def announced_failures(name: str) -> str:
    """Which failures were last announced to the runs of that name, and when."""
    return f"failures/announced/{name}.json"


def content_hashes(source_id: str, shard: str) -> str:
    """Content hashes of a shard's images, where it was not embedded yet."""
    return f"hashes/{source_id}/{shard}.parquet"


PROBES = ".probe"


def probe(token: str) -> str:
    """A small object that the start-up probe writes and deletes."""
    return f"{PROBES}/{token}"
