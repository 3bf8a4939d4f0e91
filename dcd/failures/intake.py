"""Take new failures from a folder into the registry: read, check, register. Nothing is moved.

A folder holds class folders of images, Parquet files with columns image and label, or both. The
store's own inbox is such a folder.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pyarrow as pa

from dcd.config import DataConfig, RunConfig
from dcd.config.explain import closest
from dcd.errors import DataError, ObjectNotFound
from dcd.failures.known_content import KnownContent, known_content
from dcd.failures.registry import Registry, read_registry
from dcd.images.decode import BadImage, decode
from dcd.images.formats import REFUSED, suffix_of
from dcd.progress import live
from dcd.sources.archives import archive_format
from dcd.sources.objects import Object, find_objects, object_uri, read_range, stat_object
from dcd.sources.parquet import read_footer
from dcd.sources.passed_over import PassedOver, why_no_image
from dcd.sources.records import (
    MAX_IMAGE_BYTES,
    RawImage,
    Reject,
    Shard,
    short_id,
    too_many_bytes,
)
from dcd.sources.shards import read_shard
from dcd.store import Store, keys
from dcd.store.errors import explained
from dcd.store.filesystems import Location, locate
from dcd.store.forgotten import REASON, mark_of
from dcd.tables import schemas
from dcd.tables.labels import clean_id, shown_name

_MAX_BATCH_IMAGES = 2000
_MAX_BATCH_BYTES = 128 * 2**20  # bounds memory


@dataclass(frozen=True)
class Intake:
    """What became of the files of one look: `batches` are the new ones' ids.

    passed_over: in words, the files that are no images by their names; "" if there are none.
    """

    batches: tuple[str, ...]
    n_files: int
    n_new: int
    n_bad: int
    passed_over: str = ""


@dataclass(frozen=True)
class _File:
    """One file to look through. `label`: of its class folder, if it lies in one."""

    location: Location
    item: Object
    uri: str
    image_id: str
    label: str | None

    @property
    def version(self) -> tuple[str, str]:
        return self.uri, self.item.etag


@dataclass(frozen=True)
class _Failure:
    """An image that passed all checks."""

    file: _File
    content_hash: bytes
    label: str
    data: bytes


def take_in_folder(store: Store, config: RunConfig, folder: str | None = None) -> Intake:
    """Look through what is new in a folder (None: the store's inbox) for the runs of a config.

    Without anything new it costs two listings. Raises DataError if a named folder is not there.
    """
    if folder is None and not store.keys_under(keys.FAILURES_INBOX):
        return Intake((), 0, 0, 0)
    registry = read_registry(store)
    passed_over = PassedOver()
    files = find_files(folder or store.uri(keys.FAILURES_INBOX), registry, passed_over)
    words = str(passed_over) if len(passed_over) else ""
    if not files:
        return Intake((), 0, 0, 0, words)
    with live.stage(f"check {len(files):,} new files"):
        taken = take_in(store, files, registry, known_content(store, config))
    return replace(taken, passed_over=words)


def find_files(root: str, registry: Registry, passed_over: PassedOver | None = None) -> list[_File]:
    """Find the files below a folder (or the one file) that are still to look through, by path.

    `passed_over` gets those that are neither images, by the rule of every source, nor Parquet.
    Raises DataError if there is nothing, StoreError if it cannot be listed.
    """
    located = locate(root.rstrip("/"))
    seen = registry.seen()
    with explained(root, "list"):
        if located.fs.isfile(located.path):
            items = [stat_object(located)]
            base = located.path.rpartition("/")[0]
        elif located.fs.isdir(located.path):
            items, base = find_objects(located), located.path
        else:
            raise DataError(f"{root}: no such file or folder; give a folder of class folders")
    found = []
    for item in items:
        name = clean_id(item.path[len(base) + 1 :])
        size = item.n_bytes if item.is_regular else None
        why = why_no_image(name, size, by_suffix="/" not in name)
        if why is not None and (why != "no image" or archive_format(name) != "parquet"):
            if located.path == item.path:
                raise DataError(
                    f"{root}: is neither a Parquet file nor a folder; give a folder of class "
                    "folders, or a Parquet file with the columns image and label"
                )
            if passed_over is not None:
                passed_over.add(why, name)
            continue
        folder, slash, _ = name.partition("/")
        uri = shown_name(object_uri(located, item.path))
        file = _File(
            Location(located.fs, item.path),
            item,
            uri,
            short_id(name),
            clean_id(folder) or None if slash else None,
        )
        if file.version not in seen:
            found.append(file)
    return found


def take_in(store: Store, files: list[_File], registry: Registry, known: KnownContent) -> Intake:
    """Register the good images of some files, in batches; then note what was refused and why."""
    now = datetime.now(UTC)
    failures = registry.failures.select(["content_hash", "uri", "etag"]).to_pylist()
    found_in = {row["content_hash"]: (row["uri"], row["etag"]) for row in failures}
    here: dict[bytes, str] = {}  # what this look has met, and its label
    batches: list[str] = []
    batch: list[_Failure] = []
    receipt: list[dict[str, object]] = []
    n_new = 0
    for file in files:
        receipt.append(_receipt_row(file))
        for image in _images(file):
            checked = _check(file, image, known, found_in, here)
            if isinstance(checked, Reject):
                receipt.append(_receipt_row(file, checked, _label_of(file, image)))
            elif checked is not None:
                found_in[checked.content_hash] = file.version
                here[checked.content_hash] = checked.label
                batch.append(checked)
                n_new += 1
            if _is_full(batch):
                batches.append(_register(store, batch, now))
                batch = []
    if batch:
        batches.append(_register(store, batch, now))
    if receipt:
        _write_receipt(store, receipt, now)
    return Intake(tuple(batches), len(files), n_new, len(receipt) - len(files))


def _images(file: _File) -> Iterator[RawImage | Reject]:
    if not file.item.is_regular:
        yield Reject(file.image_id, "read", "not a regular file")
        return
    if archive_format(file.uri) == "parquet":
        shard = Shard(keys.slug(file.image_id), file.uri, "parquet", None, file.item.etag)
        # Of weak_label and label the second: somebody saw the picture, the pool did not.
        beside = read_footer(file.uri, DataConfig(images=file.uri)).other_label_column
        try:
            yield from read_shard(shard, DataConfig(images=file.uri, label_column=beside))
        except (DataError, ObjectNotFound) as err:
            yield Reject(file.image_id, "read", str(err)[:300])
        return
    if refused := REFUSED.get(suffix_of(file.uri)):
        yield Reject(file.image_id, "read", refused)
        return
    if file.item.n_bytes > MAX_IMAGE_BYTES:
        yield Reject(file.image_id, "read", too_many_bytes(file.item.n_bytes, MAX_IMAGE_BYTES))
        return
    try:
        data = read_range(file.uri, file.location, 0, file.item.n_bytes)
    except ObjectNotFound:
        yield Reject(file.image_id, "read", "was removed before it was read")
        return
    yield RawImage(file.image_id, data, file.label)


def _check(
    file: _File,
    image: RawImage | Reject,
    known: KnownContent,
    found_in: dict[bytes, tuple[str, str]],
    here: dict[bytes, str],
) -> _Failure | Reject | None:
    """The failure, or why it is none; None if it was registered from this very file."""
    if isinstance(image, Reject):
        return image
    hashed = schemas.content_hash(image.data)
    if hashed in here:
        other = "" if here[hashed] == image.weak_label else f", there as {here[hashed]!r}"
        return Reject(image.image_id, "known", f"the same picture as {found_in[hashed][0]}{other}")
    if found_in.get(hashed) == file.version:
        here[hashed] = image.weak_label or ""
        return None  # an earlier look ended before it could write its receipt
    if known.forgotten and mark_of(hashed) in known.forgotten:
        return Reject(image.image_id, "known", REASON)
    label = image.weak_label
    if label is None:
        reason = "no label; put it into a folder that is named like its label"
        if archive_format(file.uri) == "parquet":
            reason = "no label in its row; fill the column 'label'"
        return Reject(image.image_id, "label", reason)
    if label not in known.labels:
        guess = closest(label, sorted(known.labels))
        meant = f" (did you mean {guess!r}?)" if guess else ""
        return Reject(image.image_id, "label", f"train has no label {label[:100]!r}{meant}")
    try:
        decode(image.data)
    except BadImage as err:
        return Reject(image.image_id, "decode", err.reason)
    if hashed in found_in:
        reason = f"the same picture as {found_in[hashed][0]}"
        return Reject(image.image_id, "known", reason)
    if hashed in known.split_of:
        return Reject(image.image_id, "known", f"is in {known.split_of[hashed]} already")
    return _Failure(file, hashed, label, image.data)


def _label_of(file: _File, image: RawImage | Reject) -> str | None:
    return image.weak_label if isinstance(image, RawImage) else file.label


def _is_full(batch: list[_Failure]) -> bool:
    n_bytes = sum(len(failure.data) for failure in batch)
    return len(batch) >= _MAX_BATCH_IMAGES or n_bytes >= _MAX_BATCH_BYTES


def _register(store: Store, batch: list[_Failure], now: datetime) -> str:
    """Publish a batch in one step, unless it is there; its id."""
    rows = sorted(batch, key=lambda failure: failure.content_hash)
    batch_id = "b-" + keys.digest([[f.content_hash.hex(), f.label] for f in rows], length=16)
    key = keys.failure_batch(batch_id)
    if not store.exists(key):
        table = pa.table(
            {
                "image_id": [failure.content_hash.hex() for failure in rows],
                "label": [failure.label for failure in rows],
                "content_hash": pa.array([f.content_hash for f in rows], schemas.CONTENT_HASH),
                "uri": [failure.file.uri for failure in rows],
                "etag": [failure.file.item.etag for failure in rows],
                "registered": pa.array([now] * len(rows), pa.timestamp("us", "UTC")),
                "image": pa.array([failure.data for failure in rows], pa.large_binary()),
            }
        )
        store.write_table(key, schemas.conform(table, schemas.FAILURE_BATCH, key))
    return batch_id


def _receipt_row(
    file: _File, reject: Reject | None = None, label: str | None = None
) -> dict[str, object]:
    return {
        "uri": file.uri,
        "etag": file.item.etag,
        "image_id": None if reject is None else reject.image_id,
        "label": label,
        "stage": None if reject is None else reject.stage,
        "reason": None if reject is None else reject.reason,
    }


def _write_receipt(store: Store, rows: list[dict[str, object]], now: datetime) -> None:
    receipt_id = keys.digest(rows, length=16)
    stamped = [{**row, "seen": now} for row in rows]
    table = pa.Table.from_pylist(stamped, schema=schemas.RECEIPTS)
    store.write_table(keys.failure_receipt(receipt_id), table)
