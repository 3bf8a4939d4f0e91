"""Parquet files with image bytes: columns, damage, and fetching without reading the rest."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcd.config import DataConfig
from dcd.errors import DataError, StoreError
from dcd.sources import objects, parquet
from dcd.sources.listing import list_shards
from dcd.sources.records import RawImage, Reject
from dcd.sources.shards import fetch_images, read_shard

STRUCT = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def write(path: Path, columns: dict[str, object], **options: object) -> Path:
    pq.write_table(pa.table(columns), path, **options)  # pyright: ignore
    return path


def read(path: Path, **config: str) -> list[RawImage | Reject]:
    data = DataConfig(images=str(path), **config)  # pyright: ignore
    (shard,) = list_shards(data)
    items = list(read_shard(shard, data))
    assert shard.n_images in (None, len(items)), "every row is an image or a reject"
    return items


def fetch(path: Path, *wanted: str) -> list[RawImage]:
    data = DataConfig(images=str(path))
    (shard,) = list_shards(data)
    return list(fetch_images(shard, data, wanted))


def image_bytes(n: int, size: int = 2000) -> bytes:
    return n.to_bytes(4, "big") * (size // 4)


@pytest.mark.parametrize(
    "images",
    [
        pa.array([b"a", b"b"]),
        pa.array([b"a", b"b"], pa.large_binary()),
        pa.array([b"a", b"b"], pa.binary_view()),
        pa.array([{"bytes": b"a", "path": "x.jpg"}, {"bytes": b"b", "path": None}], STRUCT),
        pa.array([b"a", b"b"]).dictionary_encode().cast(pa.binary()),
    ],
    ids=["binary", "large_binary", "binary_view", "hugging_face", "dictionary"],
)
def test_image_columns(tmp_path: Path, images: pa.Array):
    path = write(tmp_path / "s.parquet", {"image_id": ["x", "y"], "image": images, "label": [3, 4]})
    assert read(path) == [RawImage("x", b"a", "3"), RawImage("y", b"b", "4")]
    assert fetch(path, "y") == [RawImage("y", b"b", "4")]


def test_img2dataset_columns(tmp_path: Path):
    path = write(
        tmp_path / "00000.parquet",
        {"key": ["000", "001"], "jpg": [b"a", b"b"], "caption": ["c"] * 2},
    )
    assert read(path) == [RawImage("00000/0", b"a", None), RawImage("00000/1", b"b", None)]
    assert read(path, id_column="key", label_column="caption") == [
        RawImage("000", b"a", "c"),
        RawImage("001", b"b", "c"),
    ]


def test_weak_label_goes_before_label(tmp_path: Path):
    columns = {"image": [b"a"], "label": ["right"], "weak_label": ["weak"]}
    path = write(tmp_path / "s.parquet", columns)
    assert read(path) == [RawImage("s/0", b"a", "weak")]
    assert read(path, label_column="label") == [RawImage("s/0", b"a", "right")]


def test_bad_rows_are_rejected_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parquet, "MAX_IMAGE_BYTES", 10)
    path = write(
        tmp_path / "s.parquet",
        {
            "image_id": ["a", None, "c", "d", "a", "f", "g" * 2000, "h", "i"],
            "image": pa.array(
                [
                    {"bytes": b"1", "path": None},
                    {"bytes": b"2", "path": None},
                    {"bytes": None, "path": "elsewhere.jpg"},
                    None,
                    {"bytes": b"5", "path": None},
                    {"bytes": b"over the limit", "path": None},
                    {"bytes": b"7", "path": None},
                    {"bytes": b"8", "path": None},
                    {"bytes": b"", "path": None},
                ],
                STRUCT,
            ),
            "label": pa.array([1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.5, float("nan")]),
        },
    )
    assert read(path) == [
        RawImage("a", b"1", "1"),
        Reject("s/1", "read", "no id in column 'image_id'"),
        Reject(
            "c",
            "read",
            "no image bytes, only the file name 'elsewhere.jpg', and no such file lies beside the "
            "table",
        ),
        Reject("d", "read", "no image bytes"),
        Reject("a", "read", "an earlier image of this shard has this id"),
        Reject("f", "read", "14 bytes, at most 10 allowed"),
        Reject("g" * 1023 + "…", "read", "its id has 2000 characters"),
        RawImage("h", b"8", "1.5"),
        RawImage("i", b"", None),
    ]


@pytest.mark.parametrize(
    ("columns", "config", "message"),
    [
        ({"picture": [b"a"]}, {}, "has no image column 'image'; found ['picture']"),
        ({"image": [b"a"]}, {"image_column": "jpg"}, "has no image column 'jpg'"),
        ({"image": ["text"]}, {}, "column 'image' is string, expected binary"),
        ({"image": [b"a"]}, {"id_column": "key"}, "has no id column 'key'"),
    ],
)
def test_missing_columns_are_named(tmp_path: Path, columns, config, message: str):
    path = write(tmp_path / "s.parquet", columns)
    with pytest.raises(DataError) as raised:
        read(path, **config)
    assert message in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_file_that_is_no_parquet_is_one_reject(tmp_path: Path):
    good = write(tmp_path / "good.parquet", {"image": [b"a"]}).read_bytes()
    for name, content in (("html", b"<html>"), ("cut", good[:-20]), ("empty", b"")):
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(content)
        (reject,) = read(path)
        assert isinstance(reject, Reject)
        assert (reject.image_id, reject.stage) == (name, "read")
        assert "not a readable Parquet file" in reject.reason


@pytest.mark.parametrize("in_chunks_alone", [False, True])
def test_a_column_whose_name_is_no_text_stops_no_other_file(tmp_path: Path, in_chunks_alone: bool):
    path = write(tmp_path / "a.parquet", {"AAAA": [1], "image": [b"x"]}, store_schema=False)
    data = path.read_bytes()
    head, _, tail = data.rpartition(b"AAAA")
    path.write_bytes(
        head + b"\x91AAA" + tail if in_chunks_alone else data.replace(b"AAAA", b"\x91AAA")
    )
    (found,) = read(path)
    if not in_chunks_alone:
        assert isinstance(found, Reject)
        assert "utf-8" in found.reason.lower()


def test_a_damaged_row_group_costs_only_its_rows(tmp_path: Path):
    path = write(
        tmp_path / "s.parquet",
        {"image": [image_bytes(n) for n in range(90)]},
        row_group_size=30,
        use_dictionary=False,
    )
    content = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(1).column(0)
    start = column.data_page_offset
    content[start : start + column.total_compressed_size] = bytes(column.total_compressed_size)
    path.write_bytes(content)
    items = read(path)
    kinds = [type(item) for item in items]
    assert kinds == [RawImage] * 30 + [Reject] * 30 + [RawImage] * 30
    assert [item.image_id for item in items] == [f"s/{n}" for n in range(90)]
    rejects = [item for item in items if isinstance(item, Reject)]
    assert all("damaged row group 1" in reject.reason for reject in rejects)


def test_a_failing_store_is_not_taken_for_damage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path / "s.parquet", {"image": [image_bytes(n) for n in range(90)]})
    data = DataConfig(images=str(path))  # pyright: ignore
    (shard,) = list_shards(data)

    def fail(self: objects.LocalFile, size: int = -1) -> bytes:
        raise StoreError("the connection was cut")

    monkeypatch.setattr(objects.LocalFile, "read", fail)
    with pytest.raises(StoreError, match="the connection was cut"):
        list(read_shard(shard, data))


def bytes_read_by(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The length of every read of a local file from now on."""
    lengths: list[int] = []
    plain = objects.LocalFile.read

    def counted(self: objects.LocalFile, size: int | None = -1, /) -> bytes | None:
        data = plain(self, size)
        lengths.append(len(data or b""))
        return data

    monkeypatch.setattr(objects.LocalFile, "read", counted)
    return lengths


@pytest.mark.parametrize(
    "ids",
    [
        pa.array(["a", None, "b", "a", "c", "é"]),
        pa.array(["a", None, "b", "a", "c", "é"], pa.large_string()),
        pa.array(["a", None, "b", "a", "c", "é"]).dictionary_encode(),
        pa.array([b"a", None, b"b", b"a", b"\xff", b"c"]),
        pa.array([-1, None, 0, -1, 10**12, 7]),
        pa.array([1, None, 2, 1, 3, 4], pa.uint8()),
        pa.array([1.5, None, 2.0, 1.5, 1e30, 0.1]),
    ],
    ids=lambda ids: str(ids.type),
)
@pytest.mark.parametrize("row_group_size", [2, 6])
def test_what_is_fetched_is_what_is_read(tmp_path: Path, ids: pa.Array, row_group_size: int):
    images = [image_bytes(n) for n in range(6)]
    path = write(
        tmp_path / "s.parquet",
        {"image_id": ids, "image": images, "label": list("uvwxyz")},
        row_group_size=row_group_size,
    )
    every = [item for item in read(path) if isinstance(item, RawImage)]
    assert len(every) >= 4  # one has no id, and an id may be there twice
    for image_id in {image.image_id for image in every}:
        assert fetch(path, image_id) == [i for i in every if i.image_id == image_id]
    assert fetch(path, *(image.image_id for image in every)) == every
    with pytest.raises(DataError, match="2 of 2"):
        fetch(path, "s/1", "None")


def test_images_without_ids_are_fetched_by_row(tmp_path: Path):
    images = [image_bytes(n) for n in range(6)]
    path = write(tmp_path / "s.parquet", {"image": images}, row_group_size=2)
    assert fetch(path, "s/1", "s/4") == [
        RawImage("s/1", images[1], None),
        RawImage("s/4", images[4], None),
    ]


@pytest.mark.parametrize("with_ids", [True, False])
def test_fetching_reads_only_the_row_groups_that_hold_the_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_ids: bool
):
    columns: dict[str, object] = {"image": [image_bytes(n, 10_000) for n in range(400)]}
    if with_ids:
        columns["image_id"] = [f"id-{n}" for n in range(400)]
    path = write(tmp_path / "s.parquet", columns, row_group_size=20, compression="none")
    monkeypatch.setattr(parquet, "READ_BYTES", 64 * 1024)
    data = DataConfig(images=str(path))  # pyright: ignore
    (shard,) = list_shards(data)
    names = [f"id-{n}" if with_ids else f"s/{n}" for n in (399, 5, 7)]
    lengths = bytes_read_by(monkeypatch)
    images = list(fetch_images(shard, data, names))
    assert [(image.image_id, image.data) for image in images] == [
        (names[1], image_bytes(5, 10_000)),
        (names[2], image_bytes(7, 10_000)),
        (names[0], image_bytes(399, 10_000)),
    ]
    assert sum(lengths) < path.stat().st_size / 4


def test_fetching_what_is_gone_names_it(tmp_path: Path):
    path = write(tmp_path / "s.parquet", {"image_id": ["a", "b"], "image": [b"a", b"b"]})
    data = DataConfig(images=str(path))  # pyright: ignore
    (shard,) = list_shards(data)
    with pytest.raises(DataError, match="1 of 2 images are not in it any more, such as 'z'"):
        list(fetch_images(shard, data, ["a", "z"]))


def test_rows_without_bytes_are_looked_for_up_to_a_number(tmp_path: Path):
    (tmp_path / "there.jpg").write_bytes(b"a")
    parts = [{"bytes": None, "path": path} for path in ("there.jpg", "gone.jpg", None)]
    images = pa.array([*parts, {"bytes": b"b", "path": None}, *parts[1:], *parts], STRUCT)
    path = write(tmp_path / "s.parquet", {"image": images}, row_group_size=3)
    data = DataConfig(images=str(path))
    (shard,) = list_shards(data)
    found = list(parquet.rows_without_bytes(shard, data, 5))
    assert [image and image.image_id for image in found] == [None, "s/1", "s/2", None, "s/7"]
    assert [len(list(parquet.rows_without_bytes(shard, data, n))) for n in (0, 1, 3, 9)] == [
        *(0, 1, 3, 6)
    ]
