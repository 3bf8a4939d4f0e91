"""Keep task results as small JSON in the store, through Prefect's result storage.

Prefect reads a kept result by the serializer that the object itself names, which may be pickle.
So an object is looked at first, and one that is not plain JSON of ours is never handed to it.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, TypeVar

from prefect import Task
from prefect.cache_policies import CacheKeyFnPolicy
from prefect.filesystems import LocalFileSystem, RemoteFileSystem
from prefect.futures import PrefectFuture
from prefect.results import ResultRecordMetadata  # pyright: ignore[reportPrivateImportUsage]
from prefect.serializers import JSONSerializer
from pydantic import TypeAdapter

from dcd.cells.cell import CellInfo
from dcd.embeddings.batches import Batch
from dcd.errors import DCDError
from dcd.store import Store, keys
from dcd.store.requests import BYTES_READ, MISSED, Requests, writing_requests
from dcd.store.s3_settings import S3Settings
from tasks.result_keys import ResultKey

T = TypeVar("T", bound=Task[Any, Any])
_RECORDS = {"Batch": Batch, "CellInfo": CellInfo}
_DIGEST = "digest"  # of all else that a result says
_SERIALIZER = JSONSerializer(
    object_encoder="tasks.reuse.encode", object_decoder="tasks.reuse.decode"
)


def kept(task: T, store: str, key: ResultKey) -> T:
    """Return `task` with its result kept under a key, reused where its outputs are still there."""
    return task.with_options(  # type: ignore[return-value]
        cache_policy=CacheKeyFnPolicy(cache_key_fn=lambda *_: key.path.partition("/")[2]),
        persist_result=True,
        result_storage=_storage(store, _s3_settings() if "://" in store else None),
        result_serializer=_SERIALIZER,
        refresh_cache=not (key.outputs_stand and is_ours(Store(store), key.path)),
    )


@dataclass(frozen=True)
class ResultLookup:
    """Whether a result was looked for, and whether it is there."""

    is_looked_for: bool
    is_kept: bool


def looked_up(store: Store, key: ResultKey) -> ResultLookup:
    """Return what `kept` will find."""
    return ResultLookup(key.outputs_stand, key.outputs_stand and is_ours(store, key.path))


def requests_of(results: Iterable[ResultLookup]) -> Requests:
    """Count what keeping and reusing these results sends to an object store, as Prefect does it.

    A result that is there is read by `is_ours` and twice by Prefect; one that is made is written
    after a look at the bucket.
    """
    found = Requests()
    for result in results:
        if result.is_kept:
            found += BYTES_READ * 3
            continue
        found += Requests(n_head=1) + writing_requests(0)
        if result.is_looked_for:
            found += MISSED
    return found


def result_of(future: PrefectFuture[Any], *, raise_on_failure: bool = True) -> Any:
    """Return the result of a task of `kept`, marked as reused if it was."""
    result = future.result(raise_on_failure=raise_on_failure)
    return as_reused(result) if is_cached(future) else result


def is_cached(future: PrefectFuture[Any]) -> bool:
    """Tell whether a finished task was skipped for a kept result."""
    return future.state.name == "Cached"


def as_reused(record: Any) -> Any:
    if isinstance(record, Batch):
        done = tuple(replace(outcome, reused=True) for outcome in record.done)
        return replace(record, done=done)
    return replace(record, reused=True) if isinstance(record, CellInfo) else record


def is_ours(store: Store, key: str) -> bool:
    """Tell whether a kept result is there, plain JSON that this module wrote, and undamaged."""
    try:
        data = store.read_bytes(key)
        document = json.loads(data)
        metadata = document["metadata"]
        if metadata["serializer"] != json.loads(_SERIALIZER.model_dump_json()):
            return False
        ResultRecordMetadata.model_validate(metadata)
        fields = json.loads(document["result"])
        kept = fields.pop(_DIGEST)
        return kept == keys.digest(fields) and fields["record"] in _RECORDS
    except (DCDError, ValueError, KeyError, TypeError, AttributeError):
        return False


def stands(store: Store, key: str) -> bool:
    """Tell whether an output is there. No if the store cannot tell: the stage itself asks again."""
    try:
        return store.exists(key)
    except DCDError:
        return False


def encode(record: object) -> dict[str, Any]:
    """Turn a record into JSON. TypeError for everything that is none of the few known records."""
    name = type(record).__name__
    if _RECORDS.get(name) is not type(record):
        raise TypeError(f"{name} is not kept as a task result")
    fields = {"record": name, **asdict(record)}  # type: ignore[call-overload]
    return {**fields, _DIGEST: keys.digest(fields)}


def decode(document: dict[str, Any]) -> Any:
    """Turn a JSON object into its record; any other object stays as it is. Names no code to run."""
    record = _RECORDS.get(str(document.get("record")))
    if record is None:
        return document
    told = ("record", _DIGEST)
    fields = {name: value for name, value in document.items() if name not in told}
    return TypeAdapter(record).validate_python(fields)


def _s3_settings() -> S3Settings:
    return S3Settings.resolved()


@lru_cache(maxsize=8)
def _storage(store: str, s3: S3Settings | None) -> LocalFileSystem | RemoteFileSystem:
    """The saved block for a store. It holds no secret: credentials come from the environment."""
    root = f"{store.rstrip('/') if s3 else Store(store).root}/{keys.RESULTS}"
    if s3 is None:
        block = LocalFileSystem(basepath=root)
    else:
        style = "virtual" if s3.virtual_hosts else "path"
        settings: dict[str, Any] = {"config_kwargs": {"s3": {"addressing_style": style}}}
        settings |= {"use_listings_cache": False, "anon": not s3.signed}
        if s3.endpoint:
            settings["endpoint_url"] = s3.endpoint
        if s3.region:
            settings["client_kwargs"] = {"region_name": s3.region}
        block = RemoteFileSystem(basepath=root, settings=settings)
    name = f"dcd-results-{keys.digest(root, s3 and vars(s3))}"
    block.save(name, overwrite=True)
    return block
