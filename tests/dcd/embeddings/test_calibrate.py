"""An encoder in int8: calibrated once on the pool's images, the same for all that is embedded."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dcd
from dcd.config import EncoderConfig, PoolConfig
from dcd.embeddings import calibrate
from dcd.embeddings.calibrate import N_IMAGES, calibrated, calibration_images
from dcd.encoders import encoder as encoders
from dcd.encoders import int8, kept
from dcd.encoders.encoder import load_encoder, load_pool_encoder
from dcd.encoders.int8 import stored_graph
from dcd.encoders.kept import kept_folder, read_kept
from dcd.encoders.precision import cosines, natural_images
from dcd.errors import DataError, EncoderError, ObjectUnreadable
from dcd.sources.records import RawImage
from dcd.sources.source import Source, source_of
from dcd.store import Store, keys
from dcd.store.forgotten import block
from dcd.tables.schemas import content_hash
from tests.case import write_case
from tests.dcd.sources.hostile import encoded, write_tar

pytest.importorskip("nncf")
CONFIG = EncoderConfig(model="test_resnet", weights="random", input_size=32, precision="int8")


@pytest.fixture(autouse=True)
def _as_a_new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoders, "_loaded", {})


def pool_of(folder: Path, n_shards: int = 3, n_images: int = 6) -> Source:
    for shard in range(n_shards):
        pixels = natural_images(n_images, 40 + shard)
        pictures = [
            (f"{shard}-{n}.png", encoded(Image.fromarray(one), "PNG"))
            for n, one in enumerate(pixels)
        ]
        write_tar(folder / f"{shard:05d}.tar", pictures)
    return source_of(PoolConfig(name="tars", images=f"{folder}/*.tar"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def test_the_same_pictures_give_the_same_encoder_everywhere(store, tmp_path):
    pool = pool_of(tmp_path / "pool")
    first = load_encoder(calibrated(store, pool, CONFIG))
    elsewhere = Store(str(tmp_path / "elsewhere"))
    assert load_encoder(calibrated(elsewhere, pool, CONFIG)).encoder_id == first.encoder_id
    assert first.runtime.precision == "int8"
    other = pool_of(tmp_path / "other", n_images=5)
    assert load_encoder(calibrated(store, Source("o", other.data), CONFIG)).encoder_id != (
        first.encoder_id
    )


def test_a_pool_that_grows_keeps_its_encoder(store, tmp_path):
    placed = calibrated(store, pool_of(tmp_path / "pool"), CONFIG)
    before = load_encoder(placed).encoder_id
    encoders._loaded.clear()
    grown = pool_of(tmp_path / "pool", n_shards=5)
    assert load_encoder(calibrated(store, grown, CONFIG)).encoder_id == before
    encoders._loaded.clear()
    assert load_pool_encoder(CONFIG, store.url, grown.id).encoder_id == before


@pytest.mark.parametrize("model", ["test_resnet", "test_vit", "test_efficientnet"])
def test_its_embeddings_stay_near_and_are_computed_in_int8(model, store, tmp_path):
    config = EncoderConfig(model=model, weights="random", precision="int8")
    found = load_encoder(calibrated(store, pool_of(tmp_path / "pool"), config))
    images = natural_images(9, found.preprocess.input_size)
    exact = load_encoder(config.model_copy(update={"precision": "fp32"})).embed(images)
    vectors = found.embed(images)
    assert vectors.shape == exact.shape
    assert 0.9 < np.median(cosines(vectors, exact)) < 0.999999
    graph = stored_graph(int8.placed(config, store.url, "tars"))
    assert graph is not None
    graph.write_to(tmp_path)
    assert 'element_type="i8"' in (tmp_path / "graph.xml").read_text()
    assert graph.calibration().n_images == 18


def test_the_pool_and_its_splits_are_embedded_by_one_graph(tmp_path):
    encoder = CONFIG.model_dump(mode="json")
    config = dcd.load_config(write_case(tmp_path, seeds=(0,), encoder=encoder))
    embedded = dcd.embed(config)
    store = Store(config.store)
    folders = {key.split("/")[2] for key in store.keys_under("embeddings")}
    assert folders == {embedded.encoder_id}
    assert len(embedded.shards) == 2
    (graph,) = store.keys_under("calibrations")
    assert graph.startswith("calibrations/colours/")
    store.delete(graph)
    assert dcd.embed(config) == embedded  # in this process the encoder is loaded: nothing is asked


def test_a_kept_graph_embeds_to_the_same_bits(store, tmp_path, monkeypatch):
    monkeypatch.setenv("DCD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "_GPU_DRIVERS", ())
    placed = calibrated(store, pool_of(tmp_path / "pool"), CONFIG)
    first = load_encoder(placed)
    images = natural_images(3, 32)
    vectors = first.embed(images)
    graph = stored_graph(placed)
    assert graph is not None
    folder = kept_folder(placed, graph.key)
    assert folder is not None
    assert read_kept(folder) is not None
    monkeypatch.setattr(encoders, "_stored_encoder", None)
    encoders._loaded.clear()
    again = load_encoder(placed)
    np.testing.assert_array_equal(again.embed(images), vectors)
    assert (again.encoder_id, again.batch_size) == (first.encoder_id, first.batch_size)


def test_of_two_machines_that_calibrate_at_once_the_first_counts(store, tmp_path, monkeypatch):
    pool = pool_of(tmp_path / "pool")
    placed = calibrated(store, pool, CONFIG)
    first = stored_graph(placed)
    assert first is not None
    images = np.stack([natural_images(1, 32)[0]] * 4)
    late = int8.make_graph(placed, images, "others")
    assert late.key == first.key
    assert store.keys_under("calibrations") == [first.key]


def test_a_damaged_graph_is_not_read(store, tmp_path):
    placed = calibrated(store, pool_of(tmp_path / "pool"), CONFIG)
    graph = stored_graph(placed)
    assert graph is not None
    path = Path(store.path(graph.key))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found = load_encoder(placed)
    with pytest.raises(ObjectUnreadable):
        found.embed(natural_images(1, 32))


def test_images_are_taken_evenly_over_the_listing(store, tmp_path):
    pool = pool_of(tmp_path / "pool", n_shards=20, n_images=20)
    found = calibration_images(store, pool)
    assert found == calibration_images(store, pool)
    taken = [image.image_id.rpartition("/")[2] for image in found]
    assert sorted({int(name.split("-")[0]) for name in taken}) == [0, 2, 5, 7, 10, 12, 15, 17]
    assert [name for name in taken if name.startswith("2-")] == [f"2-{n}" for n in range(0, 20, 2)]


@pytest.mark.parametrize(
    ("n", "expected"),
    [
        (4, [0, 1, 2, 3]),
        (5, [0, 2, 4]),
        (16, [0, 4, 8, 12]),
        (100, [0, 8, 16, 24]),
    ],
)
def test_pictures_of_a_shard_are_spread(n, expected):
    pictures = iter([RawImage(str(i), b"", None) for i in range(n)])
    assert [int(one.image_id) for one in calibrate._spread(pictures, 4)] == expected
    assert N_IMAGES % calibrate._MAX_SHARDS == 0


def test_forgotten_pictures_are_not_looked_at(store, tmp_path):
    pool = pool_of(tmp_path / "pool", n_shards=1)
    first, *rest = calibration_images(store, pool)
    block(store, [content_hash(first.data)])
    left = [image.image_id for image in calibration_images(store, pool)]
    assert left == [image.image_id for image in rest]


def test_what_is_missing_is_named(store, tmp_path, monkeypatch):
    pool = pool_of(tmp_path / "pool")
    with pytest.raises(EncoderError, match=r"nothing is calibrated in .*calibrations/tars.* embed"):
        load_pool_encoder(CONFIG, store.url, pool.id)
    with pytest.raises(EncoderError, match="int8 is calibrated on a pool's images"):
        load_encoder(CONFIG)
    with pytest.raises(EncoderError, match="is no calibration of a pool"):
        load_encoder(CONFIG.model_copy(update={"calibration": "somewhere"}))
    given = CONFIG.model_copy(update={"calibration": f"{store.url}/calibrations/other"})
    with pytest.raises(EncoderError, match="calibrations/other is of test_resnet with these"):
        calibrated(store, pool, given)
    write_tar(tmp_path / "bad" / "0.tar", [("a.png", b"none")])
    bad = source_of(PoolConfig(name="bad", images=f"{tmp_path}/bad/*.tar"))
    with pytest.raises(DataError, match="none of its first images decodes"):
        calibrated(store, bad, CONFIG)
    monkeypatch.setattr(calibrate, "has_nncf", lambda: False)
    with pytest.raises(EncoderError, match=r"pip install 'data-centric-debugging\[int8\]'"):
        calibrated(store, pool, CONFIG)
    monkeypatch.setattr(calibrate, "has_nncf", lambda: True)
    eager = CONFIG.model_copy(update={"backend": "torch"})
    with pytest.raises(EncoderError, match="int8 needs the backend openvino"):
        calibrated(store, pool, eager)


def test_other_precisions_need_none_of_it(store, tmp_path):
    config = CONFIG.model_copy(update={"precision": "auto"})
    assert calibrated(store, pool_of(tmp_path / "pool"), config) == config
    assert "calibration" not in json.loads(config.model_dump_json())
    assert store.keys_under(keys.CALIBRATIONS) == []
