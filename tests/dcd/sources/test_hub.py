"""Data sets on the Hub as pools and splits, read by HfFileSystem from a stand-in of its API."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from dcd.config import DataConfig, load_config
from dcd.errors import DataError, DCDError, StoreError, StoreRefused, StoreUnavailable
from dcd.runs.loop import run
from dcd.sources.listing import list_shards, look_through
from dcd.sources.shards import read_images
from dcd.store import Store
from tests.case import write_case
from tests.hub_datasets import TOKEN, DataSets, data_sets_server


@pytest.fixture
def hub(monkeypatch):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    with data_sets_server() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def put(hub: DataSets, repo: str, files: dict[str, bytes]) -> str:
    hub.files[repo] = files
    return f"hf://datasets/{repo}"


def with_features(names: tuple[str, ...], codes: list[int]) -> bytes:
    """A file as `datasets` writes it: pictures as {bytes, path}, labels as codes of names."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))}
    )
    images = [{"bytes": f"picture {n}".encode(), "path": None} for n in range(len(codes))]
    sink = io.BytesIO()
    table = datasets.Dataset.from_dict({"image": images, "label": codes}, features=features)
    table.to_parquet(sink)
    return sink.getvalue()


def test_pictures_and_names_of_codes_come_from_datasets_files(hub):
    names = ("cat", "fox")
    at = put(hub, "somebody/zoo", {
        "README.md": b"# zoo",
        "data/train-00000-of-00002.parquet": with_features(names, [0, 1, 1]),
        "data/train-00001-of-00002.parquet": with_features(names, [1]),
        "other/x.parquet": with_features(names, [0]),
    })  # fmt: skip
    for images in (f"{at}@main/data", f"{at}/data/*.parquet", f"{at}/data/"):
        data = DataConfig(images=images, label_column="label")
        shards = list_shards(data)
        assert [shard.format for shard in shards] == ["parquet", "parquet"]
        found = [(image.data, image.weak_label) for image in read_images(data)]
        assert found == [
            (b"picture 0", "cat"),
            (b"picture 1", "fox"),
            (b"picture 2", "fox"),
            (b"picture 0", "fox"),
        ]
    one = DataConfig(images=f"{at}/other/x.parquet", label_column="label")
    assert [image.weak_label for image in read_images(one)] == ["cat"]


def test_what_changes_on_the_hub_has_another_etag_and_what_is_added_is_seen(hub):
    at = put(hub, "somebody/zoo", {"data/a.parquet": with_features(("cat",), [0])})
    data = DataConfig(images=f"{at}/data", label_column="label")
    (before,) = list_shards(data)
    hub.files["somebody/zoo"]["data/a.parquet"] = with_features(("cat",), [0, 0])
    hub.files["somebody/zoo"]["data/b.parquet"] = with_features(("cat",), [0])
    now = list_shards(data)
    assert [shard.name for shard in now] == [before.name, "b"]
    assert now[0].etag != before.etag


def test_a_column_is_fetched_and_not_the_file(hub):
    sink = io.BytesIO()
    pictures = pa.array([bytes([n % 251]) * 500_000 for n in range(20)], pa.binary())
    table = pa.table({"image": pictures, "label": ["cat"] * 20})
    options: dict[str, object] = {"use_dictionary": ["label"], "compression": "none"}
    pq.write_table(table, sink, row_group_size=5, **options)  # pyright: ignore[reportArgumentType]
    at = put(hub, "somebody/large", {"a.parquet": sink.getvalue()})
    look_through(DataConfig(images=f"{at}/a.parquet", label_column="label"))
    assert hub.n_bytes_sent < 1_000_000


def test_the_whole_loop_runs_on_a_private_data_set_and_keeps_no_token(hub, tmp_path, monkeypatch):
    config = write_case(tmp_path, seeds=(0,), compare={"baselines": ["none"]})
    names = ["own.parquet", "seed0.parquet", "truth.parquet"]
    names += [f"pool-{n}.parquet" for n in range(3)]
    at = put(hub, "somebody/case", {name: (tmp_path / name).read_bytes() for name in names})
    hub.private.add("somebody/case")
    text = config.read_text().replace(f"{tmp_path}/store", "STORE").replace(str(tmp_path), at)
    config.write_text(text.replace("STORE", str(tmp_path / "store")))
    for name in names:
        (tmp_path / name).unlink()
    assert at in yaml.safe_load(config.read_text())["pool"]["images"]
    with pytest.raises(StoreRefused, match="private or gated; check its name, or set HF_TOKEN"):
        run(load_config(config))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    info = run(load_config(config))
    assert {row.method for row in info.rows} == {"none", "selected"}
    store = Store(str(tmp_path / "store"))
    assert all(TOKEN.encode() not in store.read_raw(key) for key in store.keys_under(""))


@pytest.mark.parametrize(
    ("uri", "told"),
    [
        ("hf://datasets/somebody/none/data", "there is no such data set on the Hub, or it is"),
        ("hf://datasets/somebody/zoo@v9/data", "the Hub has no such data set, revision or file"),
        ("hf://datasets/somebody/zoo/none.parquet", "no image source matches"),
    ],
)
def test_what_is_not_there_is_one_clear_error(hub, uri, told):
    put(hub, "somebody/zoo", {"data/a.parquet": with_features(("cat",), [0])})
    with pytest.raises(DCDError, match=told) as refused:
        list_shards(DataConfig(images=uri))
    assert str(refused.value).startswith(uri)


@pytest.mark.parametrize(
    "uri", ["hf://somebody/model", "hf://datasets", "hf://datasets/zoo", "hf://buckets/a/b"]
)
def test_what_is_no_data_set_is_refused_by_its_form(uri):
    with pytest.raises(StoreError, match=r"expected hf://datasets/OWNER/NAME\[@REVISION\]/PATH"):
        list_shards(DataConfig(images=uri))


def test_a_hub_that_is_away_may_come_back(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(StoreUnavailable, match="the Hub cannot be reached or is busy"):
        list_shards(DataConfig(images="hf://datasets/somebody/zoo/data"))


def test_a_store_cannot_be_on_the_hub():
    with pytest.raises(StoreError, match="a store cannot be on the Hub"):
        Store("hf://datasets/somebody/zoo/store")


def test_a_folder_without_images_is_told_as_elsewhere(hub):
    at = put(hub, "somebody/text", {"data/notes.md": b"x"})
    with pytest.raises(DataError, match="no image source matches"):
        list_shards(DataConfig(images=f"{at}/data"))
