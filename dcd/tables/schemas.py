"""Give the Arrow schemas of the store's tables, and hold every table to them (`conform`).

Source of the layout: the design's table of contracts; README, "The store".
"""

import hashlib

import pyarrow as pa

from dcd.errors import SchemaMismatch

CONTENT_HASH = pa.binary(16)  # blake2b-128 of the encoded image bytes


def _schema(*fields: tuple[str, pa.DataType] | tuple[str, pa.DataType, bool]) -> pa.Schema:
    return pa.schema([pa.field(f[0], f[1], nullable=len(f) == 3) for f in fields])


SHARDS = _schema(
    ("shard", pa.string()),
    ("uri", pa.string()),
    ("format", pa.string()),
    ("n_images", pa.int32(), True),
    ("etag", pa.string()),
)
REJECTS = _schema(("image_id", pa.string()), ("stage", pa.string()), ("reason", pa.string()))
# Files of an encoder's graph in int8.
CALIBRATION = _schema(("file", pa.string()), ("data", pa.large_binary()))
ERROR_SAMPLE = _schema(
    ("image_id", pa.string()),
    ("label", pa.string()),
    ("predicted", pa.string(), True),
    ("mode", pa.string(), True),
)
NEIGHBORS = _schema(
    ("error_image_id", pa.string()),
    ("image_id", pa.string()),
    ("label", pa.string()),
    ("distance", pa.float32()),
    ("rank", pa.int32()),
    ("label_agreement", pa.float32(), True),
    ("kept", pa.bool_()),
    ("reason", pa.string(), True),
)

# Neighbours that LPIPS has ordered (dcd.selection.rerank): rank is their place by it, distance
# still the encoder's. lpips: no unit, 0 or more; null where the image was refused before, hence not
# compared.
RERANKED_NEIGHBORS = NEIGHBORS.append(pa.field("lpips", pa.float32()))

# How often a pool image of a class carries a label (dcd.label_noise.noise_matrix); a class's rows
# sum to 1.
NOISE = _schema(
    ("true_label", pa.string()),
    ("label", pa.string()),
    ("probability", pa.float32()),
)
# Images of a pool that came without a label, and the class that each most probably is
# (dcd.label_noise.pseudo_labels).
PSEUDO_LABELS = _schema(
    ("image_id", pa.string()),
    ("label", pa.string()),
    ("posterior", pa.float32()),  # of that class, in 0…1
)
DEBUG_TRAIN = _schema(
    ("image_id", pa.string()),
    ("label", pa.string()),
    ("shard", pa.string()),
    ("uri", pa.string()),
    ("min_distance", pa.float32(), True),  # null: no failure asked for it
    ("n_queries", pa.int32()),
    # targeted: near a failure; general: of the pool; reviewed: true label; failing: that, and used
    # as a failure
    ("role", pa.string()),
    ("label_agreement", pa.float32(), True),
    ("weight", pa.float32()),  # in the loss; a train image has 1
)
# Picks of an index with pseudo-labels say which of them have such a label; null: a given one.
PSEUDO_LABELLED_DEBUG_TRAIN = DEBUG_TRAIN.append(pa.field("posterior", pa.float32(), True))
PREDICTIONS = _schema(
    ("model", pa.string()),
    ("seed", pa.int64()),
    ("split", pa.string()),
    ("image_id", pa.string()),
    ("label", pa.string()),
    ("predicted", pa.string()),
    ("confidence", pa.float32()),
    ("mode", pa.string(), True),
)
# Between the names of two models in CURVE's `line`.
BETWEEN = " – "
CURVE = _schema(  # of the average of two models' weights: alpha 0 is the first, 1 the second
    ("line", pa.string()),  # the two models' names
    ("alpha", pa.float64()),
    ("split", pa.string()),
    ("accuracy", pa.float64()),
    ("chosen", pa.bool_()),
)
METRICS = _schema(
    ("model", pa.string()),
    ("seed", pa.int64()),
    ("split", pa.string()),
    ("mode", pa.string(), True),
    ("metric", pa.string()),
    ("value", pa.float64()),
    ("ci_low", pa.float64()),
    ("ci_high", pa.float64()),
    ("n", pa.int64()),
    ("n_picks", pa.int64()),
    ("label_precision", pa.float64(), True),
)


def embeddings(dim: int) -> pa.Schema:
    """Describe a shard's embeddings: rows sorted by (weak_label, image_id), `dim` float16 each."""
    return _schema(
        ("image_id", pa.string()),
        ("weak_label", pa.string(), True),
        ("content_hash", CONTENT_HASH),
        ("embedding", pa.list_(pa.field("element", pa.float16(), nullable=False), dim)),
    )


def labelled_features(dim: int) -> pa.Schema:
    """Describe one split joined with its labels: what training and selection queries take."""
    return _schema(
        ("image_id", pa.string()),
        ("label", pa.string()),
        ("mode", pa.string(), True),
        ("content_hash", CONTENT_HASH),
        ("embedding", pa.list_(pa.field("element", pa.float16(), nullable=False), dim)),
    )


def clustered(dim: int) -> pa.Schema:
    """Describe the vectors of an index: rows sorted by (weak_label, image_id)."""
    return _schema(
        ("weak_label", pa.string()),
        ("image_id", pa.string()),
        ("shard", pa.string()),
        ("content_hash", CONTENT_HASH),
        ("embedding", pa.list_(pa.field("element", pa.float16(), nullable=False), dim)),
    )


# Failures that a cell was trained on, and whether a model that did not see each gets it right.
OUT_OF_FOLD = _schema(("image_id", pa.string()), ("right", pa.bool_()))

# What was taken from the pool in the rounds so far, one row for each failure that asked for it.
LEDGER = _schema(
    ("round", pa.int32()),
    ("error_image_id", pa.string()),
    ("image_id", pa.string()),
    ("label", pa.string()),
    ("content_hash", CONTENT_HASH),
    ("rank", pa.int32()),
    ("distance", pa.float32()),
)
PICKS = _schema(
    ("image_id", pa.string()),
    ("label", pa.string()),
    ("source", pa.string()),  # pool, or the split that the image comes from
    ("shard", pa.string()),
    ("weight", pa.float32()),
)
# The points of a map of embeddings (dcd.maps). role: pool, train, failure or pick. posterior: how
# probably the label is right, 0…1; null where it is taken for true. x, y: -1…1, no unit.
MAP = _schema(
    ("image_id", pa.string()),
    ("role", pa.string()),
    ("label", pa.string()),
    ("shard", pa.string()),
    ("content_hash", CONTENT_HASH),
    ("posterior", pa.float32(), True),
    ("x", pa.float32()),
    ("y", pa.float32()),
)
HEAD = _schema(
    ("class", pa.string()),
    ("weight", pa.binary()),  # of the features, as the bytes of float32s
    ("bias", pa.float32()),
)


def content_hash(data: bytes) -> bytes:
    """Hash encoded image bytes: CONTENT_HASH."""
    return hashlib.blake2b(data, digest_size=16).digest()


_FAILURE = (
    ("image_id", pa.string()),  # the content hash in hex: the same picture has one id
    ("label", pa.string()),
    ("content_hash", CONTENT_HASH),
    ("uri", pa.string()),  # where the image was found
    ("etag", pa.string()),
    ("registered", pa.timestamp("us", "UTC")),
)
FAILURES = _schema(*_FAILURE)

# A batch holds the image bytes too, so that it is an image source and survives the inbox.
FAILURE_BATCH = _schema(*_FAILURE, ("image", pa.large_binary()))

# One row a file that was looked through (reason null), one more for every image refused in it.
RECEIPTS = _schema(
    ("uri", pa.string()),
    ("etag", pa.string()),
    ("image_id", pa.string(), True),
    ("label", pa.string(), True),
    ("stage", pa.string(), True),
    ("reason", pa.string(), True),
    ("seen", pa.timestamp("us", "UTC")),
)

# What people decided about images (dcd.reviews). A row is never changed: an undo is a row too.
REVIEWS = _schema(
    ("decision_id", pa.string()),
    ("decided", pa.timestamp("us", "UTC")),
    ("reviewer", pa.string()),
    ("pool", pa.string()),  # id of the source that the image is from
    ("image_id", pa.string()),
    ("content_hash", CONTENT_HASH),
    ("label", pa.string()),  # under which it was shown
    ("decision", pa.string()),  # accept, reject, relabel, skip or undo
    ("true_label", pa.string(), True),  # of a relabelled one
    ("via", pa.string()),  # the tool: browser, or where it was imported from
)

# Reviewed images that are in an index, one row a label that each has there.
REVIEWED = _schema(
    ("image_id", pa.string()),
    ("label", pa.string()),  # in the index
    ("shard", pa.string()),
    ("content_hash", CONTENT_HASH),
    ("true_label", pa.string(), True),  # null: that label is wrong, and no other is known
)

# A source's images by content, without vectors.
CONTENT = _schema(
    ("image_id", pa.string()), ("weak_label", pa.string(), True), ("content_hash", CONTENT_HASH)
)


def conform(table: pa.Table, schema: pa.Schema, name: str) -> pa.Table:
    """Return the table with exactly `schema`'s columns, in its order and types; metadata is kept.

    Raises SchemaMismatch naming `name`, the column, what was expected and what was found.
    """
    missing = [column for column in schema.names if column not in table.column_names]
    if missing:
        raise SchemaMismatch(
            f"{name}: lacks the columns {missing}; found {table.column_names}; "
            "rebuild it with this version"
        )
    picked = table.select(schema.names)
    for field in schema:
        column = picked.column(field.name)
        if not field.nullable and column.null_count:
            raise SchemaMismatch(
                f"{name}: column {field.name} has {column.null_count} nulls, expected none"
            )
    try:
        return picked.cast(schema.with_metadata(table.schema.metadata))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, ValueError) as err:
        raise SchemaMismatch(
            f"{name}: expected {schema.to_string(show_field_metadata=False)!r}, "
            f"found {picked.schema.to_string(show_schema_metadata=False)!r}: {err}"
        ) from err
