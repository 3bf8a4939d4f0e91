"""The requests of `dcd estimate` beside those that an S3 server gets from the real flows."""

import io
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from dcd.config import BuildIndexConfig, RunConfig, load_run_or_index_config
from dcd.estimate.embedding import StageCost
from dcd.sources.source import open_for_pool
from dcd.store import Store, keys
from dcd.store.requests import Requests
from dcd.store.store_format import open_for_writing
from flows.build_index import build_index
from flows.embed_pool import embed_pool
from flows.estimate import estimate_of
from tests.case import N_SHARDS, write_case
from tests.counted_requests import Counted, counted
from tests.s3_server import client

pytestmark = pytest.mark.slow


def s3_case(folder: Path, s3_url: str, endpoint: str, kind: str) -> Path:
    """A case whose pool and store are on S3. Returns the config."""
    config = write_case(folder)
    bucket, _, prefix = s3_url.removeprefix("s3://").partition("/")
    for n in range(N_SHARDS):
        path = folder / f"pool-{n}.parquet"
        data = as_tar(path) if kind == "tar" else path.read_bytes()
        key = f"{prefix}/images/pool-{n}.{kind}"
        client(endpoint).put_object(Bucket=bucket, Key=key, Body=data)
    document = yaml.safe_load(config.read_text())
    document["store"] = f"{s3_url}/store"
    document["pool"] = {"name": "colours", "images": f"{s3_url}/images/pool-*.{kind}"}
    config.write_text(yaml.safe_dump(document))
    return config


def as_tar(path: Path) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for row in pq.read_table(path).to_pylist():
            for suffix, data in (("png", row["image"]), ("cls", row["weak_label"].encode())):
                member = tarfile.TarInfo(f"{row['image_id']}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return sink.getvalue()


def stages(run: RunConfig | None, config: BuildIndexConfig) -> dict[str, StageCost]:
    return {stage.stage: stage for stage in estimate_of(config, run, None, 1).stages}


def of_both(stage: StageCost) -> Requests:
    return (stage.pool_requests or Requests()) + (stage.store_requests or Requests())


def opening(config: BuildIndexConfig, requests: Counted) -> tuple[Requests, Requests]:
    """What it takes to open the store, noted before, for embedding and for an index.

    That is no stage: a handful of requests, whatever the pool.
    """
    open_for_pool(config.store, config.pool)
    requests.taken()
    open_for_writing(config.store)
    for_embedding = requests.taken()
    open_for_pool(config.store, config.pool)
    return for_embedding, requests.taken()


def embedded_as_told(
    run: RunConfig | None, config: BuildIndexConfig, requests: Counted, case: str
) -> StageCost:
    for_embedding, _ = opening(config, requests)
    told = stages(run, config)["embed"]
    requests.taken()
    embed_pool(run.embedding() if run is not None else config)
    real = requests.taken()
    print(f"embed, {case}: told {of_both(told)}, real {real}")
    assert for_embedding + of_both(told) == real
    return told


def indexed_as_told(config: BuildIndexConfig, requests: Counted, case: str) -> StageCost:
    """The pool is embedded already: embedding is told too."""
    for_embedding, for_index = opening(config, requests)
    found = stages(None, config)
    requests.taken()
    build_index(config)
    real = requests.taken()
    told = for_index + for_embedding + of_both(found["embed"]) + of_both(found["index"])
    print(f"embed and index, {case}: told {told}, real {real}")
    assert told == real
    return found["index"]


@pytest.mark.parametrize("kind", ["parquet", "tar"])
def test_the_server_gets_the_requests_that_were_told(
    kind: str,
    tmp_path: Path,
    s3_url: str,
    moto_endpoint: str,
    prefect_home: str,
    monkeypatch: pytest.MonkeyPatch,
):
    run, config = load_run_or_index_config(s3_case(tmp_path, s3_url, moto_endpoint, kind))
    assert run is not None
    store = Store(config.store)
    with counted(moto_endpoint, monkeypatch) as requests:
        first = embedded_as_told(run, config, requests, "empty store")
        assert first.n_rows == pytest.approx(72, rel=0.2)  # of tars it follows from bytes
        assert first.hours is not None
        embedded_as_told(run, config, requests, "all done, no result kept")
        embedded_as_told(run, config, requests, "all done, results kept")
        encoder_id = store.keys_under("embeddings/colours")[0].split("/")[2]
        store.delete(keys.embeddings("colours", encoder_id, "pool-1"))
        again = embedded_as_told(run, config, requests, "one of three missing")
        assert again.n_rows == pytest.approx(24, rel=0.2)

        built = indexed_as_told(config, requests, "no index")
        assert built.bytes_written > 0
        there = indexed_as_told(config, requests, "index there")
        assert (there.n_rows, there.bytes_read, there.bytes_written) == (0, 0, 0)
        coded = config.model_copy(
            update={"index": config.index.model_copy(update={"storage": "int8"})}
        )
        indexed_as_told(coded, requests, "int8")


def test_new_shards_are_told_to_be_appended(
    tmp_path: Path,
    s3_url: str,
    moto_endpoint: str,
    prefect_home: str,
    monkeypatch: pytest.MonkeyPatch,
):
    path = s3_case(tmp_path, s3_url, moto_endpoint, "parquet")
    _, config = load_run_or_index_config(path)
    bucket, _, prefix = s3_url.removeprefix("s3://").partition("/")
    last = f"{prefix}/images/pool-2.parquet"
    body = client(moto_endpoint).get_object(Bucket=bucket, Key=last)["Body"].read()
    client(moto_endpoint).delete_object(Bucket=bucket, Key=last)
    build_index(config)
    client(moto_endpoint).put_object(Bucket=bucket, Key=last, Body=body)
    embed_pool(config)
    with counted(moto_endpoint, monkeypatch) as requests:
        told = indexed_as_told(config, requests, "one shard appended")
    assert told.n_rows == 24
    assert "appended" in told.note
