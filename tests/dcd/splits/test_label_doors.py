"""Every door through which a label comes in gives the same label for the same value."""

import csv
import gzip
import io
import json
import tarfile
import tempfile
import unicodedata
import uuid
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcd.config import DataConfig, PoolConfig
from dcd.errors import LabelError
from dcd.failures.answers import read_classes
from dcd.failures.intake import find_files
from dcd.failures.registry import read_registry
from dcd.sources.listing import list_shards
from dcd.sources.records import RawImage
from dcd.sources.shards import list_images, read_shard
from dcd.splits.label_map import read_label_map
from dcd.splits.label_table import read_labels, read_true_labels
from dcd.store import Store

Labels = list[str | None]
Door = Callable[[Path, Sequence[str]], Labels]
IMAGE = b"\x89PNG any bytes"

# As people write them, and what each means.
WRITTEN: list[tuple[str, str | None]] = [
    ("cat", "cat"),
    (" cat", "cat"),
    ("cat \t", "cat"),
    ("\ufeffcat", "cat"),
    ("cat\u00a0", "cat"),
    ("\u200bcat\u200b", "cat"),
    ("cafe\u0301", "caf\u00e9"),
    ("caf\u00e9", "caf\u00e9"),
    ("Cat", "Cat"),
    ("01", "01"),
    ("1", "1"),
    ("007", "007"),
    ("1e3", "1e3"),
    ("1.0", "1.0"),
    ("1.10", "1.10"),
    ("12:30", "12:30"),
    ("2026-01-31", "2026-01-31"),
    ("True", "True"),
    ("true", "true"),
    ("NaN", "NaN"),
    ("null", "null"),
    ("None", "None"),
    ("NA", "NA"),
    ("inf", "inf"),
    ("12345678901234567890", "12345678901234567890"),
    ("-1", "-1"),
    ("polar bear", "polar bear"),
    ("polar  bear", "polar  bear"),
    ("tench, Tinca tinca", "tench, Tinca tinca"),
    ('7" disc', '7" disc'),
    ("a;b", "a;b"),
    ("a|b", "a|b"),
    ("#hash", "#hash"),
    ("犬", "犬"),
    ("한국어", "한국어"),
    (unicodedata.normalize("NFD", "한국어"), "한국어"),
    ("👩\u200d🔬", "👩\u200d🔬"),
    ("ẞ", "ẞ"),
    ("", None),
    (" \u00a0\u200b", None),
]


def meant(text: str) -> str | None:
    """What a text means, told in other words than the product's."""
    text = unicodedata.normalize("NFC", text).replace("\ufeff", "")
    no_width = "\u200b\u200c\u200d\u200e\u200f\u2060\u00ad\u180e\0"
    while text and (text[0].isspace() or text[0] in no_width):
        text = text[1:]
    while text and (text[-1].isspace() or text[-1] in no_width):
        text = text[:-1]
    return text or None


def png(name: str) -> dict[str, object]:
    return {"image_id": name, "image": IMAGE}


def source_labels(images: str, **more: str) -> Labels:
    """The labels of a source in the order of its ids, listed and read; both must say the same."""
    data = DataConfig(images=images, **more)  # pyright: ignore
    read, listed = {}, {}
    for shard in list_shards(data):
        read |= {
            i.image_id: i.weak_label for i in read_shard(shard, data) if isinstance(i, RawImage)
        }
        listed |= {i.image_id: i.weak_label for i in list_images(shard, data)}
    assert listed == read
    return [read[name] for name in sorted(read)]


def names(n: int) -> list[str]:
    return [f"i{k:03d}" for k in range(n)]


def csv_text(header: Sequence[str], rows: Sequence[Sequence[str]], separator: str = ",") -> str:
    sink = io.StringIO()
    writer = csv.writer(sink, delimiter=separator, lineterminator="\r\n")
    writer.writerow(header)
    writer.writerows(rows)
    return sink.getvalue()


def table_labels(uri: Path, **more: str) -> Labels:
    """Through `labels`; a missing label is refused there, so that rows come in one by one."""
    config = {"images": "i", "labels": str(uri)} | more
    found = read_labels(DataConfig(**config), "train")  # pyright: ignore
    assert found is not None
    return found["label"].to_pylist()


def csv_door(suffix: str, separator: str, pack: Callable[[bytes], bytes], mark: bytes) -> Door:
    def door(folder: Path, values: Sequence[str]) -> Labels:
        rows = list(zip(names(len(values)), values, strict=True))
        text = csv_text(("image_id", "label"), rows, separator).encode()
        (folder / f"labels{suffix}").write_bytes(pack(mark + text))
        return table_labels(folder / f"labels{suffix}")

    return door


def parquet_door(kind: pa.DataType, of: Callable[[str], object] = str) -> Door:
    def door(folder: Path, values: Sequence[str]) -> Labels:
        column = pa.array([of(value) for value in values]).cast(kind)
        path = folder / "labels.parquet"
        pq.write_table(pa.table({"image_id": names(len(values)), "label": column}), path)
        return table_labels(path)

    return door


def image_table(labels: pa.Array) -> pa.Table:
    n = len(labels)
    return pa.table({"image_id": names(n), "image": [IMAGE] * n, "label": labels})


def code_book(folder: Path, values: Sequence[str]) -> Path:
    """Images with codes for labels and their names in the metadata, as `datasets` writes them."""
    table = image_table(pa.array(range(len(values)), pa.int64()))
    noted = {"info": {"features": {"label": {"names": list(values), "_type": "ClassLabel"}}}}
    path = folder / "named.parquet"
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(noted)}), path)
    return path


def images_door(kind: pa.DataType) -> Door:
    def door(folder: Path, values: Sequence[str]) -> Labels:
        column = pa.array(values, pa.string()).cast(kind)
        pq.write_table(image_table(column), folder / "images.parquet")
        return source_labels(str(folder / "images.parquet"))

    return door


def tar_door(suffix: str, content: Callable[[str], bytes]) -> Door:
    def door(folder: Path, values: Sequence[str]) -> Labels:
        with tarfile.open(folder / "pool.tar", "w") as archive:
            for name, value in zip(names(len(values)), values, strict=True):
                for member, data in ((f"{name}.png", IMAGE), (f"{name}.{suffix}", content(value))):
                    info = tarfile.TarInfo(member)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
        return source_labels(str(folder / "pool.tar"))

    return door


def manifest_door(folder: Path, values: Sequence[str]) -> Labels:
    rows = []
    for name, value in zip(names(len(values)), values, strict=True):
        (folder / f"{name}.png").write_bytes(IMAGE)
        rows.append((f"{name}.png", name, value))
    (folder / "m.csv").write_text(csv_text(("uri", "image_id", "label"), rows), newline="")
    return source_labels(str(folder / "m.csv"))


def map_door(folder: Path, values: Sequence[str]) -> Labels:
    rows = [(value, name) for name, value in zip(names(len(values)), values, strict=True)]
    (folder / "map.csv").write_text(csv_text(("weak_label", "label"), rows), newline="")
    found = read_label_map(PoolConfig(images="i", label_map=str(folder / "map.csv")))
    assert found is not None
    by_name = {row["label"]: row["weak_label"] for row in found.to_pylist()}
    return [by_name[name] for name in names(len(values))]


def truth_door(folder: Path, values: Sequence[str]) -> Labels:
    path = folder / "truth.parquet"
    pq.write_table(pa.table({"image_id": names(len(values)), "label": list(values)}), path)
    return read_true_labels(str(path), "pool.true_labels").rows["label"].to_pylist()


TABLES: dict[str, Door] = {
    "csv": csv_door(".csv", ",", bytes, b""),
    "csv with a byte order mark": csv_door(".CSV", ",", bytes, b"\xef\xbb\xbf"),
    "tsv.gz": csv_door(".tsv.gz", "\t", gzip.compress, b""),
    "semicolons": csv_door(".csv", ";", bytes, b""),
    "parquet": parquet_door(pa.string()),
    "large text": parquet_door(pa.large_string()),
    "text views": parquet_door(pa.string_view()),
    "binary": parquet_door(pa.binary()),
    "categories": parquet_door(pa.dictionary(pa.int32(), pa.string())),
    "code book": lambda folder, values: table_labels(code_book(folder, values)),
    "true labels": truth_door,
    "label map": map_door,
}
SOURCES: dict[str, Door] = {
    "json in a tar": tar_door("json", lambda value: json.dumps({"label": value}).encode()),
    "cls in a tar": tar_door("cls", lambda value: f"{value}\r\n".encode()),
    "txt in a tar": tar_door("txt", lambda value: b"\xef\xbb\xbf" + value.encode()),
    "images in parquet": images_door(pa.string()),
    "images in parquet, categories": images_door(pa.dictionary(pa.int32(), pa.string())),
    "images in parquet, views": images_door(pa.string_view()),
    "code book": lambda folder, values: source_labels(str(code_book(folder, values))),
    "manifest": manifest_door,
}


def check(values: Sequence[str], expected: Labels) -> None:
    """All doors give the expected labels for values that are written so."""
    there = [(v, e) for v, e in zip(values, expected, strict=True) if e is not None]
    for name, door in SOURCES.items():
        with tempfile.TemporaryDirectory() as folder:
            assert door(Path(folder), values) == expected, name
    for name, door in TABLES.items() if there else ():  # an empty table is refused
        with tempfile.TemporaryDirectory() as folder:
            assert door(Path(folder), [v for v, _ in there]) == [e for _, e in there], name


def test_labels_as_people_write_them():
    assert [meant(text) for text, _ in WRITTEN] == [label for _, label in WRITTEN]
    check([text for text, _ in WRITTEN], [label for _, label in WRITTEN])


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12),
        min_size=2,
        max_size=40,
    )
)
def test_every_door_gives_the_same_label_for_the_same_text(values: list[str]):
    check(values, [meant(value) for value in values])


@pytest.mark.parametrize("name", [n for n in TABLES if n not in ("true labels", "label map")])
def test_a_blank_label_in_a_table_is_refused(name: str, tmp_path: Path):
    with pytest.raises(LabelError, match=r"train\.labels: .* has 2 rows without label"):
        TABLES[name](tmp_path, ["cat", " ", "dog", ""])


NUMBERS: list[tuple[pa.DataType, list[object], Labels]] = [
    (pa.int8(), [0, -1, None], ["0", "-1", None]),
    (pa.uint64(), [2**64 - 1], ["18446744073709551615"]),
    (pa.float32(), [1.0, 0.1, float("nan"), -0.0], ["1", "0.1", None, "0"]),
    (pa.float64(), [1e16, 0.1, 1e-7], ["10000000000000000", "0.1", "0.0000001"]),
    (pa.decimal128(20, 2), [Decimal("1.10"), Decimal("2.00")], ["1.10", "2"]),
    (pa.bool_(), [True, False, None], ["true", "false", None]),
    (pa.null(), [None, None], [None, None]),
]


@pytest.mark.parametrize(("kind", "values", "expected"), NUMBERS, ids=lambda v: str(v)[:20])
def test_numbers_are_labels_by_one_spelling_in_every_door(
    tmp_path: Path, kind: pa.DataType, values: list[object], expected: Labels
):
    column = pa.array(values, kind)
    table = image_table(column)
    pq.write_table(table, tmp_path / "images.parquet")
    assert source_labels(str(tmp_path / "images.parquet")) == expected
    if any(label is not None for label in expected):
        there = table.filter(pa.array([label is not None for label in expected]))
        pq.write_table(there, tmp_path / "labels.parquet")
        assert table_labels(tmp_path / "labels.parquet") == [e for e in expected if e is not None]
    if not pa.types.is_decimal(kind) and kind != pa.float32():  # JSON has no such types

        def content(value: str) -> bytes:
            return json.dumps({"label": values[int(value)]}).encode()

        assert tar_door("json", content)(tmp_path, [str(n) for n in range(len(values))]) == expected


def test_half_floats_have_few_digits(tmp_path: Path):
    column = pa.array(np.array([0.1, 2], np.float16))
    pq.write_table(pa.table({"image_id": ["a", "b"], "label": column}), tmp_path / "l.parquet")
    assert table_labels(tmp_path / "l.parquet") == ["0.1", "2"]


@pytest.mark.parametrize("value", [["cat"], {"name": "cat"}])
def test_lists_and_objects_are_no_labels_in_any_door(tmp_path: Path, value: object):
    table = pa.table({"image_id": ["a"], "image": [IMAGE], "label": [value]})
    pq.write_table(table, tmp_path / "l.parquet")
    with pytest.raises(LabelError, match=r"1 rows that hold no label.*the label is a (list|dict)"):
        table_labels(tmp_path / "l.parquet")
    data = DataConfig(images=str(tmp_path / "l.parquet"))
    (refused,) = read_shard(list_shards(data)[0], data)
    assert not isinstance(refused, RawImage)
    assert refused.reason.startswith("unreadable label: the label is a")


def test_class_folders_and_the_inbox_clean_their_names_alike(tmp_path: Path):
    texts = ["cat", " cat ", "cafe\u0301", "caf\u00e9", "01", "\ufeffdog"]
    for n, text in enumerate(texts):
        (tmp_path / "pool" / text).mkdir(parents=True)
        (tmp_path / "pool" / text / f"i{n}.png").write_bytes(IMAGE)
    expected = sorted(str(meant(text)) for text in texts)
    data = DataConfig(images=str(tmp_path / "pool"))
    images = [image for shard in list_shards(data) for image in read_shard(shard, data)]
    assert sorted(i.weak_label for i in images if isinstance(i, RawImage)) == expected  # pyright: ignore
    registry = read_registry(Store(str(tmp_path / "store")))
    files = find_files(str(tmp_path / "pool"), registry)
    assert sorted(file.label for file in files) == expected  # pyright: ignore


@pytest.mark.parametrize("suffix", ["txt", "json", "JSON"])
def test_class_lists_clean_their_names_too(tmp_path: Path, suffix: str):
    values = [text for text, label in WRITTEN if label is not None and "Cat" not in text]
    values = list({meant(text): text for text in values}.values())
    path = tmp_path / f"classes.{suffix}"
    text = "\r\n".join([*values, "", ""]) if suffix == "txt" else json.dumps(values)
    path.write_text("\ufeff" + text, encoding="utf-8", newline="")
    assert list(read_classes(path)) == [meant(value) for value in values]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('["cat", null, "dog"]', "name 1 of its 3 is missing"),
        ('{"0": "cat"}', "found a dict"),
        ('["cat", "cat "]', "'cat' more than once"),
        ("[1]", "at least two"),
    ],
)
def test_faulty_class_lists_are_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(LabelError, match=message):
        read_classes(tmp_path / "classes.json")


UUIDS = [uuid.UUID(int=n) for n in (1, 2)]
IDS: list[tuple[pa.Array, list[str]]] = [
    (pa.array(["01", " 1 "]), ["01", "1"]),
    (pa.array([1, 2], pa.int64()), ["1", "2"]),
    (pa.array([1.0, 2.0]), ["1", "2"]),
    (pa.array(["a", "b"], pa.string_view()), ["a", "b"]),
    (pa.array(["a", "b"], pa.large_string()), ["a", "b"]),
    (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
    (pa.array([b"a", b"b"]), ["a", "b"]),
    (pa.array([u.bytes for u in UUIDS], pa.uuid()), [str(u) for u in UUIDS]),
    (pa.array(["cafe\u0301", "\ufeffb"]), ["caf\u00e9", "b"]),
]


@pytest.mark.parametrize(("ids", "expected"), IDS, ids=lambda v: str(v)[:20])
def test_ids_are_the_same_in_images_and_tables(tmp_path: Path, ids: pa.Array, expected: list[str]):
    table = pa.table({"image_id": ids, "image": [IMAGE] * 2, "label": ["x", "y"]})
    pq.write_table(table, tmp_path / "t.parquet")
    data = DataConfig(images=str(tmp_path / "t.parquet"), labels=str(tmp_path / "t.parquet"))
    (shard,) = list_shards(data)
    read = [image.image_id for image in read_shard(shard, data)]
    assert read == expected
    assert [image.image_id for image in list_images(shard, data)] == expected
    found = read_labels(data, "train")
    assert found is not None
    assert sorted(found["image_id"].to_pylist()) == sorted(expected)
    pq.write_table(table.rename_columns(["image_id", "image", "label"]), tmp_path / "p.parquet")
    truth = read_true_labels(str(tmp_path / "t.parquet"), "pool.true_labels")
    assert truth.rows["image_id"].to_pylist() == sorted(expected)
