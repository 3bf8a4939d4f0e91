"""Object keys: the only place that knows a path. Pure functions, config → key.

Derived data is addressed by what made it, so "does the object exist?" answers "is it done?".
The functions stand in the order in which a run writes.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    import pyarrow as pa

# Raised whenever the same pool would get other agreements.
_AGREEMENT_FORMAT = 1

# Raised whenever the same pool would get another reference.
_REFERENCE_FORMAT = 1

# Folders that are listed.
INDEXES = "index"
MAPS = "maps"
RUNS = "runs"
CALIBRATIONS = "calibrations"
COMPARISONS = "comparisons"
CHAMPION_CHANGES = "champions"
RESULTS = "results"
PROBES = ".probe"
DAMAGED = "damaged"  # what was set aside: for people to look at, nothing reads it

# What makes a run and a comparison whole: written last.
RUN_LAST = "report.html"
COMPARISON_LAST = "comparison.md"

# Failure samples that users report. The inbox is theirs: it is read, never changed.
FAILURES_INBOX = "failures/inbox"
FAILURE_BATCHES = "failures/batches"
FAILURE_RECEIPTS = "failures/receipts"

# What the batches and receipts hold, in one object: saves requests, decides nothing.
FAILURES_VIEW = "failures/registry.parquet"
RECEIPTS_VIEW = "failures/receipts.parquet"

# What people decided about images, and all of it in one object: that saves requests only.
REVIEW_BATCHES = "reviews/batches"
REVIEWS_VIEW = "reviews/decisions.parquet"

# Pictures that must never come again: marks that say nothing of them.
FORGOTTEN = "forgotten"
FORGOTTEN_MARKS = "forgotten/marks.parquet"

CHAMPION = "champion.json"
STORE_FORMAT = "store.json"  # which format the store has
MODEL_WEIGHTS = "model.safetensors"
MODEL_CONFIG = "config.json"


# Digests and path segments.


def digest(*parts: object, length: int = 12) -> str:
    """Return a hex digest of JSON-able parts; pydantic models count by their canonical JSON."""
    plain = [
        part.model_dump(mode="json") if isinstance(part, BaseModel) else part for part in parts
    ]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()[:length]


def table_digest(table: "pa.Table") -> str:
    """Return a digest of a table's rows, in their order; metadata and chunking do not count."""
    import pyarrow as pa

    bare = table.replace_schema_metadata(None).combine_chunks()
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, bare.schema) as writer:
        writer.write_table(bare)
    return hashlib.blake2b(sink.getvalue(), digest_size=16).hexdigest()[:12]


def slug(text: str, max_length: int = 48) -> str:
    """Turn `text` into one safe path segment: letters, digits, dot, dash and underscore."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[-max_length:] or "x"


def pool_id(images: str, name: str | None = None) -> str:
    """Name an image source in the store. The same `images` give the same id, in every role."""
    return name or f"{slug(images.rsplit('/', 1)[-1].split('*')[0], 32)}-{digest(images, length=8)}"


# Images and their embeddings.


def shards(pool: str) -> str:
    return f"pools/{pool}/shards.parquet"


def failed_shards(pool: str, encoder_id: str) -> str:
    """Return the key of the shards that the latest run could not embed, with reasons, as JSON."""
    return f"pools/{pool}/failed-{encoder_id}.json"


def embeddings(pool: str, encoder_id: str, shard: str) -> str:
    return f"embeddings/{pool}/{encoder_id}/{shard}.parquet"


def embeddings_of(pool: str, encoder_id: str) -> str:
    """Return the prefix of all embeddings of a pool by one encoder."""
    return f"embeddings/{pool}/{encoder_id}"


def encoders_of(pool: str) -> str:
    """Return the prefix of a source's embeddings by all encoders."""
    return f"embeddings/{pool}"


def rejects(pool: str, encoder_id: str, shard: str) -> str:
    return f"rejects/{pool}/{encoder_id}/{shard}.parquet"


def calibrations(pool: str) -> str:
    """Return the prefix of the int8 graphs that were calibrated on a pool's images."""
    return f"{CALIBRATIONS}/{pool}"


def content_hashes(source_id: str, shard: str) -> str:
    """Return the key of content hashes of a shard's images, where it was not embedded yet."""
    return f"hashes/{source_id}/{shard}.parquet"


# An index. Its files are named by its prefix, as those of the index that it adds to may be.


def index(pool: str, encoder_id: str, index_id: str) -> str:
    """Return the prefix of an index: the files below; `index_info` is written last."""
    return f"index/{pool}/{encoder_id}/{index_id}"


def index_vectors(prefix: str, number: int) -> str:
    """Return the key of rows by label, list and image_id; the first file has the number 0."""
    return f"{prefix}/vectors-{number:05d}.parquet"


def index_labels(prefix: str) -> str:
    """Return the key of the table that says where the rows of each label are."""
    return f"{prefix}/labels.parquet"


def index_sample(prefix: str) -> str:
    """Return the key of a uniform sample of the rows."""
    return f"{prefix}/sample.parquet"


def index_lists(prefix: str) -> str:
    """Return the key of the centroids of the labels that have lists."""
    return f"{prefix}/lists.parquet"


def index_codec(prefix: str) -> str:
    """Return the key of what turns codes into vectors, where the index holds codes."""
    return f"{prefix}/codec.parquet"


def index_sources(prefix: str) -> str:
    """Return the key of what the index was made of."""
    return f"{prefix}/sources.json"


def index_info(prefix: str) -> str:
    """Return the key of what the index counts; written last."""
    return f"{prefix}/index.json"


def index_shares(prefix: str) -> str:
    """Return the prefix of what workers note of an index that they build; gone once it is there."""
    return f"{prefix}/shares"


def index_share_labels(prefix: str) -> str:
    """Return the key of the labels that a table gives, for all workers."""
    return f"{index_shares(prefix)}/given.parquet"


def index_heldout(prefix: str) -> str:
    """Return the key of rows that neither lists nor codes were trained on, for all workers."""
    return f"{index_shares(prefix)}/heldout.parquet"


def index_run(prefix: str, run_id: str) -> str:
    """Return the key of sorted rows of some shards."""
    return f"{index_shares(prefix)}/run-{run_id}.parquet"


def index_run_groups(prefix: str, run_id: str) -> str:
    """Return the key of the first row of each row group of a run; written after the run."""
    return f"{index_shares(prefix)}/run-{run_id}-groups.parquet"


def index_share_sample(prefix: str, share_id: str) -> str:
    """Return the key of the rows of a share that may be of the index's sample."""
    return f"{index_shares(prefix)}/{share_id}-sampled.parquet"


def index_share_judged(prefix: str, share_id: str) -> str:
    """Return the key of the nearest rows that a share holds of those held out."""
    return f"{index_shares(prefix)}/{share_id}-judged.parquet"


def index_share(prefix: str, share_id: str) -> str:
    """Return the key of where the rows of a share are; written last of it."""
    return f"{index_shares(prefix)}/{share_id}-done.parquet"


def index_pseudo_labels(prefix: str) -> str:
    """Return the key of the images that came without a label, under those that they were given."""
    return f"{prefix}/pseudo_labels.parquet"


def pool_agreement(pool: str, encoder_id: str, index_id: str) -> str:
    """Return the key of the label agreement of the index's sample of its pool."""
    return f"{index(pool, encoder_id, index_id)}/agreement-{_AGREEMENT_FORMAT}.parquet"


def pool_votes(pool: str, encoder_id: str, index_id: str) -> str:
    """Return the key of the votes that `pool_agreement` is made of; written before it."""
    return f"{index(pool, encoder_id, index_id)}/votes-{_AGREEMENT_FORMAT}.parquet"


def pool_reference(pool: str, encoder_id: str, index_id: str) -> str:
    """Return the key of rows that label agreement looks for neighbours in; written after
    `reference_directions`.
    """
    return f"{index(pool, encoder_id, index_id)}/reference-{_REFERENCE_FORMAT}/rows.parquet"


def reference_directions(pool: str, encoder_id: str, index_id: str) -> str:
    """Return the key of directions onto which `pool_reference` is projected."""
    return f"{index(pool, encoder_id, index_id)}/reference-{_REFERENCE_FORMAT}/directions.parquet"


def pool_copies(pool: str, encoder_id: str, index_id: str, judging: str) -> str:
    """Return the key of which images of the index's sample are near copies of judging ones."""
    return f"{index(pool, encoder_id, index_id)}/copies-{judging}.parquet"


# Splits, selections, cells.


def split(split_id: str) -> str:
    """Return the key of the labelled features of one split."""
    return f"splits/{split_id}.parquet"


def neighbors(neighbors_id: str) -> str:
    """Return the key of the neighbours of one group of failures."""
    return f"neighbors/{neighbors_id}.parquet"


def copies(copies_id: str) -> str:
    """Return the key of which images of a split are near copies of each other."""
    return f"copies/{copies_id}.parquet"


def lpips(distances_id: str) -> str:
    """Return the key of LPIPS of the pairs of failures and candidates of some selections."""
    return f"lpips/{distances_id}.parquet"


def selection(selection_id: str) -> str:
    """Return the prefix of a selection; of the files below `selection_picks` is written last."""
    return f"selections/{selection_id}"


def selection_neighbors(selection_id: str) -> str:
    """Return the key of the candidates of every failure, kept or refused."""
    return f"{selection(selection_id)}/neighbors.parquet"


def selection_picks(selection_id: str) -> str:
    """Return the key of the images to add; written last."""
    return f"{selection(selection_id)}/debug_train.parquet"


def selection_ledger(selection_id: str) -> str:
    """Return the key of what was taken in which round for which failure, up to a round."""
    return f"{selection(selection_id)}/ledger.parquet"


def reviewed(reviewed_id: str) -> str:
    """Return the key of the reviewed images that are in an index."""
    return f"reviewed/{reviewed_id}.parquet"


def head(head_id: str) -> str:
    """Return the key of a classifier on features that new failures do not change."""
    return f"heads/{head_id}.parquet"


def noise(noise_id: str) -> str:
    """Return the key of how the labels of a pool are estimated to be wrong."""
    return f"noise/{noise_id}.parquet"


def cell(cell_id: str) -> str:
    """Return the prefix of one (method, seed); of the files below `cell_predictions` is last."""
    return f"cells/{cell_id}"


def cell_picks(cell_id: str) -> str:
    """Return the key of the images that the cell added to train."""
    return f"{cell(cell_id)}/picks.parquet"


def cell_curve(cell_id: str) -> str:
    """Return the key of accuracies between the original and the fine-tuned weights."""
    return f"{cell(cell_id)}/curve.parquet"


def cell_out_of_fold(cell_id: str) -> str:
    """Return the key of which failures models that did not see them get right; of rounds only."""
    return f"{cell(cell_id)}/out_of_fold.parquet"


def cell_model(cell_id: str, name: str = "") -> str:
    """Return the key of a file of the cell's model; without a name the folder, with its slash."""
    return f"{cell(cell_id)}/model/{name}"


def cell_predictions(cell_id: str) -> str:
    """Return the key of what the model answers for every judged image; written last."""
    return f"{cell(cell_id)}/predictions.parquet"


def checkpoint(cell_id: str) -> str:
    """Return the key of where the training of a cell stands; deleted when it is done."""
    return f"{cell(cell_id)}/checkpoint.pt"


def stage_checkpoint(checkpoint_key: str, stage: str) -> str:
    """Where an earlier stage of that training stands, or has ended; deleted with it."""
    folder, _, name = checkpoint_key.rpartition("/")
    return f"{folder}/{stage}-{name}"


def drawn_map(map_id: str) -> str:
    """Return the key of the points of a map of embeddings."""
    return f"{MAPS}/{map_id}.parquet"


# Runs, comparisons, champions.


def run(run_id: str, name: str) -> str:
    """Return the key of a file of a run, by the name that users see."""
    return f"runs/{run_id}/{name}"


def run_report(run_id: str) -> str:
    """Return the key of the page of a run; written last."""
    return run(run_id, RUN_LAST)


def run_card(run_id: str) -> str:
    """Return the key of what a program reads of a run."""
    return run(run_id, "card.json")


def run_card_text(run_id: str) -> str:
    """Return the key of the card for people, in Markdown."""
    return run(run_id, "card.md")


def run_config(run_id: str) -> str:
    """Return the key of the whole config of a run."""
    return run(run_id, "config.json")


def run_gate(run_id: str) -> str:
    """Return the key of what the gate said of a run."""
    return run(run_id, "gate.json")


def run_parts(run_id: str) -> str:
    """Return the key of the parts (`dcd.store.parts`) that a run is a view of."""
    return run(run_id, "parts.json")


def run_table(run_id: str, name: str) -> str:
    """Return the key of a table of a run, such as metrics, predictions, debug_train."""
    return run(run_id, f"{name}.parquet")


def run_models(run_id: str) -> str:
    """Return the folder of the models that a run saved, one a seed."""
    return run(run_id, "model")


def run_model(run_id: str, seed: int) -> str:
    """Return the folder of one of them: MODEL_WEIGHTS and MODEL_CONFIG."""
    return f"{run_models(run_id)}/seed{seed}"


def comparison(comparison_id: str, name: str) -> str:
    """Return the key of a file of a comparison: comparison.md, its tables and figures."""
    return f"comparisons/{comparison_id}/{name}"


def comparison_parts(comparison_id: str) -> str:
    """Return the key of the parts that a comparison is a view of."""
    return comparison(comparison_id, "parts.json")


def evaluation(evaluation_id: str) -> str:
    """Return the key of what a champion predicts for the images of a later run."""
    return f"evaluations/{evaluation_id}.parquet"


def champion_change(change_id: str) -> str:
    """Return the key of the note of one promotion or rollback; never overwritten."""
    return f"{CHAMPION_CHANGES}/{change_id}.json"


# Registered failures.


def failure_batch(batch_id: str) -> str:
    """Return the key of failures that were registered together, with their images; never changed
    once written.
    """
    return f"{FAILURE_BATCHES}/{batch_id}.parquet"


def failure_receipt(receipt_id: str) -> str:
    """Return the key of the files looked through, and of what was refused in them; written last."""
    return f"{FAILURE_RECEIPTS}/{receipt_id}.parquet"


def covered_failures(name: str = "", run_id: str = "") -> str:
    """Return the key of the batches that a finished run covered; or a prefix of such."""
    return "/".join(filter(None, ("failures/covered", name, run_id and f"{run_id}.json")))


def announced_failures(name: str) -> str:
    """Return the key of which failures were last announced to the runs of that name, and when."""
    return f"failures/announced/{name}.json"


# Reviews.


def review_batch(batch_id: str) -> str:
    """Return the key of decisions that were sent together; never changed once written."""
    return f"{REVIEW_BATCHES}/{batch_id}.parquet"


# Results of tasks, and the start-up probe.


def result(task: str, segments: Sequence[str]) -> str:
    """Return the key of a kept result of a task, as JSON; each segment names what it depends on."""
    return "/".join([RESULTS, task, *(slug(segment, 64) for segment in segments)])


def probe(token: str) -> str:
    """Return the key of a small object that the start-up probe writes and deletes."""
    return f"{PROBES}/{token}"
