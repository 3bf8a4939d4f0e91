"""Shard embedding: every image embedded or rejected, the same tables on every run, done or not."""

import hashlib
import io
import random
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from dcd.config import DataConfig, EncoderConfig
from dcd.embeddings import embed
from dcd.embeddings.embed import (
    ShardStats,
    embed_images,
    embed_shard,
    publish,
    published,
    respelled_words,
)
from dcd.encoders.encoder import Encoder, load_encoder
from dcd.errors import CountMismatch
from dcd.images.decode import decode
from dcd.images.preprocess import to_input
from dcd.sources.listing import list_shards
from dcd.sources.records import RawImage, Reject, Shard
from dcd.sources.source import source_of
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.threads import cores


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    config = EncoderConfig(model="pixels", input_size=16, batch_size=4, precision="fp32")
    return load_encoder(config)


def _png(seed: int, size: int = 20) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    sink = io.BytesIO()
    Image.fromarray(pixels).save(sink, "PNG")
    return sink.getvalue()


def _images(n: int) -> list[RawImage | Reject]:
    """n images, labels a, b and none in turn, in no sorted order."""
    labels = ("b", None, "a")
    return [RawImage(f"i{(i * 7) % n:03d}", _png(i), labels[i % 3]) for i in range(n)]


def _shard(n_images: int | None = None, etag: str = "e1") -> Shard:
    return Shard("00000", "somewhere/00000.tar", "webdataset", n_images, etag)


def test_every_image_becomes_one_row(encoder: Encoder) -> None:
    images = [image for image in _images(11) if isinstance(image, RawImage)]
    table = embed_images("00000", images, encoder).embeddings
    assert table.schema.equals(schemas.embeddings(encoder.dim))
    rows = {row["image_id"]: row for row in table.to_pylist()}
    assert len(rows) == table.num_rows == 11
    for image in images:
        row = rows[image.image_id]
        assert row["weak_label"] == image.weak_label
        assert row["content_hash"] == hashlib.blake2b(image.data, digest_size=16).digest()
        alone = encoder.embed(to_input(decode(image.data), encoder.preprocess)[None])[0]
        np.testing.assert_allclose(row["embedding"], alone, atol=1e-3)


def test_rows_are_sorted_by_label_then_id(encoder: Encoder) -> None:
    table = embed_images("00000", _images(12), encoder).embeddings
    found = list(zip(*table.select(["weak_label", "image_id"]).to_pydict().values(), strict=True))
    assert found == sorted(found, key=lambda row: (row[0] is None, row[0] or "", row[1]))
    assert {label for label, _ in found} == {"a", "b", None}


def test_broken_images_become_rejects(encoder: Encoder) -> None:
    images = _images(9)
    broken = [
        RawImage("z-cut", _png(0)[:200], "a"),
        Reject("y-label", "label", "the label is a list"),
        RawImage("x-html", b"<html>404</html>", "a"),
    ]
    embedded = embed_images(
        "s", [broken[0], *images[:6], broken[1], *images[6:], broken[2]], encoder
    )
    assert embedded.stats == ShardStats("s", n_images=12, n_embedded=9, n_rejected=3)
    assert embedded.rejects.schema.equals(schemas.REJECTS)
    rejects = embedded.rejects.to_pydict()
    assert rejects["image_id"] == ["x-html", "y-label", "z-cut"]
    assert rejects["stage"] == ["decode", "label", "decode"]
    assert "HTML" in rejects["reason"][0]


def test_embeddings_that_are_not_finite_are_rejected(encoder: Encoder) -> None:
    def overflowing(images: np.ndarray) -> np.ndarray:
        vectors = encoder.embed(images)
        vectors[0, 0] = 1e6  # finite in float32, not in float16
        return vectors

    embedded = embed_images("s", _images(8), replace(encoder, embed=overflowing))
    assert embedded.stats == ShardStats("s", n_images=8, n_embedded=6, n_rejected=2)
    assert set(embedded.rejects["stage"].to_pylist()) == {"embed"}
    vectors = embedded.embeddings["embedding"].combine_chunks().flatten().to_numpy()
    assert np.isfinite(vectors).all()


@pytest.mark.parametrize("broken", [0, 5])
def test_no_images(broken: int, encoder: Encoder) -> None:
    embedded = embed_images("s", [RawImage(f"{i}", b"", None) for i in range(broken)], encoder)
    assert embedded.stats == ShardStats("s", broken, 0, broken)
    assert embedded.embeddings.schema.equals(schemas.embeddings(encoder.dim))
    assert embedded.embeddings.num_rows == 0


def test_tables_do_not_depend_on_the_timing_of_threads(encoder: Encoder) -> None:
    rng = random.Random(0)

    def slow_at_times(images: np.ndarray) -> np.ndarray:
        time.sleep(rng.choice((0, 0, 0.02)))
        return encoder.embed(images)

    images = _images(61)
    images[13] = RawImage("broken", b"", "a")
    first = embed_images("s", images, encoder)
    second = embed_images("s", images, replace(encoder, embed=slow_at_times))
    assert first.embeddings.equals(second.embeddings)
    assert first.rejects.equals(second.rejects)


def test_shards_side_by_side(encoder: Encoder) -> None:
    alone = embed_images("s", _images(30), encoder)
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda _: embed_images("s", _images(30), encoder), range(8)))
    assert all(alone.embeddings.equals(each.embeddings) for each in together)


def test_batches_are_full_and_only_the_last_is_short(encoder: Encoder) -> None:
    sizes: list[int] = []

    def noting(images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        return encoder.embed(images)

    embed_images("s", _images(10), replace(encoder, embed=noting))
    assert sorted(sizes) == [2, 4, 4]


def test_heavy_images_make_smaller_batches(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "_MAX_BATCH_BYTES", 2 * len(_png(0)))
    sizes: list[int] = []

    def noting(images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        return encoder.embed(images)

    assert embed_images("s", _images(10), replace(encoder, embed=noting)).stats.n_embedded == 10
    assert max(sizes) <= 3


def test_reading_ahead_is_bounded_and_progress_adds_up(encoder: Encoder) -> None:
    n_read = n_done = most_ahead = 0

    def reading() -> Iterator[RawImage | Reject]:
        nonlocal n_read, most_ahead
        for image in [*_images(80), Reject("r", "read", "cut")]:
            n_read += 1
            most_ahead = max(most_ahead, n_read - n_done)
            yield image

    def done(n_images: int) -> None:
        nonlocal n_done
        n_done += n_images

    embed_images("s", reading(), encoder, done)
    assert n_done == n_read == 81
    assert most_ahead <= (cores() + 3) * encoder.batch_size


def test_an_error_of_the_reader_or_the_encoder_is_raised(encoder: Encoder) -> None:
    def gone() -> Iterator[RawImage | Reject]:
        yield from _images(10)
        raise ConnectionError("the store is away")

    with pytest.raises(ConnectionError, match="away"):
        embed_images("s", gone(), encoder)

    def failing(_images: np.ndarray) -> np.ndarray:
        raise MemoryError("no memory")

    with pytest.raises(MemoryError):
        embed_images("s", _images(40), replace(encoder, embed=failing))
    assert embed_images("s", _images(5), encoder).stats.n_embedded == 5


def test_published_is_read_back(encoder: Encoder, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    shard = _shard(n_images=7)
    assert published(store, "pool", encoder.encoder_id, shard) is None
    embedded = embed_images(shard.name, [*_images(6), RawImage("bad", b"", None)], encoder)
    stats = publish(store, "pool", encoder.encoder_id, shard, embedded)
    assert stats == ShardStats("00000", n_images=7, n_embedded=6, n_rejected=1)
    assert published(store, "pool", encoder.encoder_id, shard) == stats
    key = keys.embeddings("pool", encoder.encoder_id, shard.name)
    table = schemas.conform(store.read_table(key), schemas.embeddings(encoder.dim), key)
    assert table.equals(embedded.embeddings)
    rejects = store.read_table(keys.rejects("pool", encoder.encoder_id, shard.name))
    assert rejects.equals(embedded.rejects)


def test_the_same_bytes_whoever_publishes(encoder: Encoder, tmp_path: Path) -> None:
    for name in ("a", "b"):
        embedded = embed_images("00000", _images(9), encoder)
        publish(Store(str(tmp_path / name)), "pool", encoder.encoder_id, _shard(), embedded)
    files = [sorted(p for p in (tmp_path / n).rglob("*") if p.is_file()) for n in ("a", "b")]
    assert len(files[0]) == 2
    for one, other in zip(*files, strict=True):
        assert one.read_bytes() == other.read_bytes()


def test_a_changed_source_encoder_or_format_is_not_done(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    publish(store, "pool", "enc-1", _shard(), embed_images("00000", _images(3), encoder))
    assert published(store, "pool", "enc-1", _shard()) is not None
    assert published(store, "pool", "enc-1", _shard(etag="e2")) is None
    assert published(store, "pool", "enc-2", _shard()) is None
    assert published(store, "other", "enc-1", _shard()) is None
    monkeypatch.setattr(embed, "CODE_FORMAT", embed.CODE_FORMAT + 1)
    assert published(store, "pool", "enc-1", _shard()) is None


def test_what_is_no_table_is_not_done(encoder: Encoder, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    key = keys.embeddings("pool", "enc", "00000")
    store.write_bytes(key, b"not Parquet")
    assert published(store, "pool", "enc", _shard()) is None
    store.write_table(key, pa.table({"x": [1]}))
    assert published(store, "pool", "enc", _shard()) is None


def test_a_crash_between_rejects_and_embeddings_leaves_the_shard_undone(
    encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store(str(tmp_path))
    embedded = embed_images("00000", [*_images(3), RawImage("bad", b"", None)], encoder)
    write = store.write_bytes

    def dying(key: str, data: bytes) -> None:
        if key.startswith("embeddings/"):
            raise KeyboardInterrupt
        write(key, data)

    monkeypatch.setattr(store, "write_bytes", dying)
    with pytest.raises(KeyboardInterrupt):
        publish(store, "pool", "enc", _shard(), embedded)
    monkeypatch.undo()
    assert store.keys_under("rejects") == [keys.rejects("pool", "enc", "00000")]
    assert store.keys_under("embeddings") == []
    assert published(store, "pool", "enc", _shard()) is None
    publish(store, "pool", "enc", _shard(), embedded)
    assert published(store, "pool", "enc", _shard()) == embedded.stats


def test_counts_that_do_not_reconcile_publish_nothing(encoder: Encoder, tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    embedded = embed_images("00000", _images(5), encoder)
    with pytest.raises(CountMismatch, match="5 images read, 6 announced"):
        publish(store, "pool", "enc", _shard(n_images=6), embedded)
    lost = replace(embedded, embeddings=embedded.embeddings.slice(1))
    with pytest.raises(CountMismatch, match="5 images read, but 4 embedded"):
        publish(store, "pool", "enc", _shard(), lost)
    assert list(tmp_path.rglob("*.parquet")) == []


def test_labels_that_are_written_otherwise_are_counted(tmp_path: Path) -> None:
    for label in ("cat", " cat", "dog"):
        (tmp_path / "pool" / label).mkdir(parents=True)
        for n in range(2):
            (tmp_path / "pool" / label / f"{n}.png").write_bytes(_png(n))
    source = source_of(DataConfig(images=str(tmp_path / "pool")))
    store = Store(str(tmp_path / "store"))
    config = EncoderConfig(model="test_resnet", weights="random", input_size=32)
    name = load_encoder(config).encoder_id
    shards = list_shards(source.data)
    done = [embed_shard(store, source, shard, config, name) for shard in shards]
    assert sorted(outcome.n_respelled for outcome in done) == [0, 0, 2]
    words = respelled_words(2, (way for outcome in done for way in outcome.respelled))
    assert words == "labels of 2 images were cleaned: ' cat' is 'cat' (2)"
    again = [embed_shard(store, source, shard, config, name) for shard in shards]
    assert all(outcome.reused and outcome.n_respelled == 0 for outcome in again)
