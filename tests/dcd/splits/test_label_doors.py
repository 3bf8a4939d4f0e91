"""Every door through which a label comes in gives the same label for the same value."""

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import tarfile
import tempfile
import unicodedata
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dcd.config import DataConfig, EncoderConfig, PoolConfig
from dcd.embeddings.embed import embed_shard
from dcd.encoders.encoder import load_encoder
from dcd.errors import LabelError
from dcd.failures import intake
from dcd.failures.answers import read_classes
from dcd.failures.registry import read_registry
from dcd.sources.listing import list_shards
from dcd.sources.records import RawImage
from dcd.sources.shards import list_images, read_shard
from dcd.sources.source import source_of
from dcd.splits.label_map import read_label_map
from dcd.splits.label_table import LabelTable, read_labels, read_true_labels
from dcd.store import Store
from dcd.validation.inventory import take_inventory
from tests.mds import write_mds

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


def zstd(data: bytes) -> bytes:
    return pa.Codec("zstd").compress(data, asbytes=True)


def tar_door(suffix: str, content: Callable[[str], bytes], **more: str) -> Door:
    def door(folder: Path, values: Sequence[str]) -> Labels:
        with tarfile.open(folder / "pool.tar", "w") as archive:
            for name, value in zip(names(len(values)), values, strict=True):
                for member, data in ((f"{name}.png", IMAGE), (f"{name}.{suffix}", content(value))):
                    info = tarfile.TarInfo(member)
                    info.size = len(data)
                    archive.addfile(info, io.BytesIO(data))
        return source_labels(str(folder / "pool.tar"), **more)

    return door


def manifest_door(suffix: str) -> Door:
    def door(folder: Path, values: Sequence[str]) -> Labels:
        ids = names(len(values))
        for name in ids:
            (folder / f"{name}.png").write_bytes(IMAGE)
        rows = [(f"{name}.png", name, value) for name, value in zip(ids, values, strict=True)]
        path = folder / f"m{suffix}"
        if suffix == ".parquet":
            uris = [f"{name}.png" for name in ids]
            table = {"uri": uris, "image_id": ids, "label": pa.array(values, pa.string())}
            pq.write_table(pa.table(table), path)
        else:
            separator = "\t" if "tsv" in suffix else ","
            text = csv_text(("uri", "image_id", "label"), rows, separator).encode()
            path.write_bytes(gzip.compress(text) if suffix.endswith(".gz") else text)
        return source_labels(str(path))

    return door


def beside_door(suffix: str, content: Callable[[str], bytes]) -> Door:
    """Label files beside the images of a class folder, named by `label_column`."""

    def door(folder: Path, values: Sequence[str]) -> Labels:
        (folder / "pool" / "a class").mkdir(parents=True)
        for name, value in zip(names(len(values)), values, strict=True):
            (folder / "pool" / "a class" / f"{name}.png").write_bytes(IMAGE)
            (folder / "pool" / "a class" / f"{name}.{suffix}").write_bytes(content(value))
        column = "label" if suffix == "json" else suffix
        found = source_labels(str(folder / "pool"), label_column=column)
        # Where the file is blank the folder's name stands.
        return [None if label == "a class" else label for label in found]

    return door


def lance_door(folder: Path, values: Sequence[str]) -> Labels:
    lance = pytest.importorskip("lance")
    table = image_table(pa.array(values, pa.string()))
    lance.write_dataset(table, str(folder / "p.lance"))
    return source_labels(str(folder / "p.lance"))


def mds_door(encoding: str) -> Door:
    def door(folder: Path, values: Sequence[str]) -> Labels:
        columns = {"image": "bytes", "image_id": "str", "label": encoding}
        rows = [
            (IMAGE, name.encode(), json.dumps(v).encode() if encoding == "json" else v.encode())
            for name, v in zip(names(len(values)), values, strict=True)
        ]
        write_mds(folder / "mds", columns, [rows[:3], rows[3:]])
        return source_labels(str(folder / "mds"))

    return door


def inbox_door(folder: Path, values: Sequence[str]) -> Labels:
    """A Parquet file in the inbox of failures."""
    (folder / "inbox").mkdir()
    pq.write_table(image_table(pa.array(values, pa.string())), folder / "inbox" / "f.parquet")
    registry = read_registry(Store(str(folder / "store")))
    (file,) = intake.find_files(str(folder / "inbox"), registry)
    found = {i.image_id: i.weak_label for i in intake._images(file) if isinstance(i, RawImage)}
    return [found[name] for name in names(len(values))]


def floats_with_names(folder: Path, values: Sequence[str]) -> Labels:
    """Codes as pandas writes them where some are missing, and their names."""
    path = code_book(folder, values)
    table = pq.read_table(path)
    floats = table["label"].cast(pa.float64())
    at = table.column_names.index("label")
    pq.write_table(table.set_column(at, "label", floats), path)
    return source_labels(str(path))


def map_door(folder: Path, values: Sequence[str]) -> Labels:
    rows = [(value, name) for name, value in zip(names(len(values)), values, strict=True)]
    by_name = {row["label"]: row["weak_label"] for row in mapped(folder, rows)}
    return [by_name[name] for name in names(len(values))]


def map_labels_door(folder: Path, values: Sequence[str]) -> Labels:
    rows = list(zip(names(len(values)), values, strict=True))
    by_name = {row["weak_label"]: row["label"] for row in mapped(folder, rows)}
    return [by_name[name] for name in names(len(values))]


def mapped(folder: Path, rows: list[tuple[str, str]]) -> list[dict[str, str]]:
    """The rows weak_label, label of a label map, as they are read."""
    (folder / "map.csv").write_text(csv_text(("weak_label", "label"), rows), newline="")
    found = read_label_map(PoolConfig(images="i", label_map=str(folder / "map.csv")))
    assert found is not None
    return found.to_pylist()


def truth_csv_door(folder: Path, values: Sequence[str]) -> Labels:
    rows = list(zip(names(len(values)), values, strict=True))
    (folder / "t.tsv").write_text(csv_text(("image_id", "label"), rows, "\t"), newline="")
    found = read_true_labels(str(folder / "t.tsv"), "pool.true_labels")
    return found.rows["label"].to_pylist()


def truth_door(folder: Path, values: Sequence[str]) -> Labels:
    path = folder / "truth.parquet"
    pq.write_table(pa.table({"image_id": names(len(values)), "label": list(values)}), path)
    return read_true_labels(str(path), "pool.true_labels").rows["label"].to_pylist()


TABLES: dict[str, Door] = {
    "csv": csv_door(".csv", ",", bytes, b""),
    "csv with a byte order mark": csv_door(".CSV", ",", bytes, b"\xef\xbb\xbf"),
    "tsv.gz": csv_door(".tsv.gz", "\t", gzip.compress, b""),
    "csv.bz2": csv_door(".csv.bz2", ",", bz2.compress, b""),
    "csv.xz": csv_door(".csv.xz", ",", lzma.compress, b""),
    "csv.zst": csv_door(".csv.zst", ",", zstd, b""),
    "csv in UTF-16": csv_door(".csv", ",", lambda data: data.decode().encode("utf-16"), b""),
    "semicolons": csv_door(".csv", ";", bytes, b""),
    "parquet": parquet_door(pa.string()),
    "large text": parquet_door(pa.large_string()),
    "text views": parquet_door(pa.string_view()),
    "binary": parquet_door(pa.binary()),
    "categories": parquet_door(pa.dictionary(pa.int32(), pa.string())),
    "code book": lambda folder, values: table_labels(code_book(folder, values)),
    "true labels": truth_door,
    "true labels as text": truth_csv_door,
    "label map": map_door,
    "label map's labels": map_labels_door,
}
SOURCES: dict[str, Door] = {
    "json in a tar": tar_door("json", lambda value: json.dumps({"label": value}).encode()),
    "cls in a tar": tar_door("cls", lambda value: f"{value}\r\n".encode()),
    "txt in a tar": tar_door("txt", lambda value: b"\xef\xbb\xbf" + value.encode()),
    "bare json in a tar": tar_door("json", lambda value: json.dumps(value).encode()),
    "a member of the tar": tar_door("target", str.encode, label_column="target"),
    "txt beside images": beside_door("txt", str.encode),
    "json beside images": beside_door("json", lambda v: json.dumps({"label": v}).encode()),
    "images in parquet": images_door(pa.string()),
    "images in parquet, large text": images_door(pa.large_string()),
    "images in parquet, bytes": images_door(pa.binary()),
    "images in parquet, categories": images_door(pa.dictionary(pa.int32(), pa.string())),
    "images in parquet, views": images_door(pa.string_view()),
    "code book": lambda folder, values: source_labels(str(code_book(folder, values))),
    "code book of floats": floats_with_names,
    "manifest": manifest_door(".csv"),
    "manifest, packed": manifest_door(".tsv.gz"),
    "manifest in parquet": manifest_door(".parquet"),
    "lance": lance_door,
    "mds": mds_door("str"),
    "mds, bytes": mds_door("bytes"),
    "mds, json": mds_door("json"),
    "inbox": inbox_door,
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
    check_names([(v, e) for v, e in zip(values, expected, strict=True) if may_be_a_folder(v)])
    check_class_lists(there)


def may_be_a_folder(text: str) -> bool:
    """Whether a text can be the name of a folder that is not hidden, nor one of Hive's."""
    fits = 0 < len(text.encode()) <= 200 and not text.startswith(".") and text != "__MACOSX"
    return fits and not set(text) & set("/\\\0") and not re.match(r"\w+=", text)


def check_names(pairs: Sequence[tuple[str, str | None]]) -> None:
    """Class folders and the inbox give the expected labels for folders of these names."""
    named = {text: (f"i{n:03d}.png", label) for n, (text, label) in enumerate(dict(pairs).items())}
    if not named:
        return
    with tempfile.TemporaryDirectory() as folder:
        for text, (name, _) in named.items():
            (Path(folder) / "pool" / text).mkdir(parents=True)
            (Path(folder) / "pool" / text / name).write_bytes(IMAGE)
        data = DataConfig(images=f"{folder}/pool")
        read = [i for s in list_shards(data) for i in read_shard(s, data)]
        found = {i.image_id[-8:]: i.weak_label for i in read if isinstance(i, RawImage)}
        assert found == dict(named.values())
        registry = read_registry(Store(f"{folder}/store"))
        files = intake.find_files(f"{folder}/pool", registry)
        assert {file.image_id[-8:]: file.label for file in files} == dict(named.values())


def check_class_lists(pairs: Sequence[tuple[str, str | None]]) -> None:
    """Lists of class names give the expected ones."""
    distinct = {label: text for text, label in pairs}
    lines = {label: text for label, text in distinct.items() if len(text.splitlines()) == 1}
    with tempfile.TemporaryDirectory() as folder:
        if len(distinct) >= 2:
            (Path(folder) / "c.json").write_text(json.dumps(list(distinct.values())))
            assert list(read_classes(Path(folder) / "c.json")) == list(distinct)
        if len(lines) >= 2:
            text = "\n".join(lines.values())
            (Path(folder) / "c.txt").write_text(text, encoding="utf-8", newline="")
            assert list(read_classes(Path(folder) / "c.txt")) == list(lines)


def test_labels_as_people_write_them():
    assert [meant(text) for text, _ in WRITTEN] == [label for _, label in WRITTEN]
    check([text for text, _ in WRITTEN], [label for _, label in WRITTEN])


@settings(max_examples=10, deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12),
        min_size=2,
        max_size=40,
    )
)
def test_every_door_gives_the_same_label_for_the_same_text(values: list[str]):
    check(values, [meant(value) for value in values])


MERGED = ["cat", " cat", "dog", "cafe\u0301"]
# In these every label stands with what its format adds: an end of line, a byte order mark.
ALL_WRITTEN_OTHERWISE = ("cls in a tar", "txt in a tar")


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "inbox"])
def test_embedding_and_validation_count_what_is_merged_at_every_source_door(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """The pictures are no pictures: what was cleaned is counted before they are decoded."""
    counted: list[tuple[Counter[str], Counter[str]]] = []

    def embedded(images: str, **more: str) -> Labels:
        data = DataConfig(images=images, **more)  # pyright: ignore
        source, store = source_of(data), Store(str(tmp_path / "store"))
        config = EncoderConfig(model="pixels", input_size=16, precision="fp32")
        encoder_id = load_encoder(config).encoder_id
        by_embedding, by_validation = Counter[str](), Counter[str]()
        for shard in list_shards(source.data):
            for way in embed_shard(store, source, shard, config, encoder_id).respelled:
                by_embedding[way.label] += way.n
        for label, ways in take_inventory(data).spellings.items():
            by_validation[label] += sum(n for way, n in ways.items() if way != label)
        counted.append((by_embedding, by_validation))
        return []

    monkeypatch.setitem(globals(), "source_labels", embedded)
    SOURCES[name](tmp_path, MERGED)
    ((by_embedding, by_validation),) = counted
    every = {"cat": 2, "dog": 1, "caf\u00e9": 1}
    expected = every if name in ALL_WRITTEN_OTHERWISE else {"cat": 1, "caf\u00e9": 1}
    assert by_embedding == by_validation == expected
    assert "images were cleaned:" in caplog.text


@pytest.mark.parametrize("name", TABLES)
def test_every_table_door_counts_and_tells_what_is_merged(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    notes: list[str] = []
    init = LabelTable.__init__

    def noted(
        self: LabelTable,
        rows: pa.Table,
        notes_: tuple[str, ...] = (),
        blank: pa.Array | pa.ChunkedArray | None = None,
    ) -> None:
        notes.extend(notes_)
        init(self, rows, notes_, blank)

    monkeypatch.setattr(LabelTable, "__init__", noted)
    TABLES[name](tmp_path, MERGED)
    told = "\n".join(notes)
    assert "' cat' (1), 'cat' (1) are one label 'cat'" in told
    assert r"'cafe\u0301' (1) is the label 'caf\xe9'" in told.replace("é", r"\xe9")
    if not name.startswith("true"):  # flows that nobody validated tell it too
        assert "' cat' (1), 'cat' (1) are one label 'cat'" in caplog.text


@pytest.mark.parametrize("name", [n for n in TABLES if not n.startswith(("true", "label map"))])
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


@pytest.mark.parametrize("data", ["cat".encode("utf-16-le"), b"c\0at"])
def test_text_with_nul_characters_is_no_label(tmp_path: Path, data: bytes):
    """UTF-16 without a mark is valid UTF-8, of other characters."""
    table = pa.table({"image_id": ["a"], "image": [IMAGE], "label": [data]})
    pq.write_table(table, tmp_path / "l.parquet")
    with pytest.raises(LabelError, match="NUL characters, as text in UTF-16 does"):
        table_labels(tmp_path / "l.parquet")
    (tmp_path / "l.csv").write_bytes(b"image_id,label\na,c\0at\n")
    with pytest.raises(LabelError, match="NUL characters, as text in UTF-16 does"):
        table_labels(tmp_path / "l.csv")


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
    files = intake.find_files(str(tmp_path / "pool"), registry)
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
        ('{"cat": "dog"}', "found a dict"),
        ('["cat", "cat "]', "'cat' more than once"),
        ("[1]", "at least two"),
        ('{"0": "cat", "0": "dog", "1": "fox"}', "'0' stands twice"),
    ],
)
def test_faulty_class_lists_are_refused(tmp_path: Path, text: str, message: str):
    (tmp_path / "classes.json").write_text(text)
    with pytest.raises(LabelError, match=message):
        read_classes(tmp_path / "classes.json")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("0 cat\n1 dog\n", "'0 cat'"),
        ("index,label\n0,cat\n1,dog\n", "'0,cat'"),
        ("names:\n  0: cat\n  1: dog\n", "'0: cat'"),
        ("- cat\n- dog\n", "'- cat'"),
        ('"cat"\n"dog"\n', "'\"cat\"'"),
    ],
)
def test_lists_that_hold_more_than_names_are_refused(tmp_path: Path, text: str, shown: str):
    (tmp_path / "labels.txt").write_text(text)
    with pytest.raises(LabelError, match=f"such as {shown}; write names alone"):
        read_classes(tmp_path / "labels.txt")


def test_classes_whose_names_begin_with_a_number_are_names(tmp_path: Path):
    (tmp_path / "labels.txt").write_text("7 up\n0\n1\n- none -\n")
    assert read_classes(tmp_path / "labels.txt") == ("7 up", "0", "1", "- none -")


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


def test_the_code_books_of_two_files_may_stand_in_another_order(tmp_path: Path):
    for name, order in (("a", ["cat", "dog", "fox"]), ("b", ["dog", "fox", "cat"])):
        (tmp_path / name).mkdir()
        code_book(tmp_path / name, order)
        (tmp_path / name / "named.parquet").rename(tmp_path / f"{name}.parquet")
    data = DataConfig(images=str(tmp_path / "*.parquet"))
    read = [i.weak_label for s in list_shards(data) for i in read_shard(s, data)]  # pyright: ignore
    assert read == ["cat", "dog", "fox", "dog", "fox", "cat"]


def test_true_labels_of_whole_numbers_are_the_text_that_other_doors_give(tmp_path: Path):
    for kind in (pa.int64(), pa.uint8(), pa.float32(), pa.string()):
        column = pa.array([2, 0, 1]).cast(kind)
        pq.write_table(pa.table({"image_id": ["a", "b", "c"], "label": column}), tmp_path / "t")
        truth = read_true_labels(str(tmp_path / "t"), "pool.true_labels")
        assert truth.rows["label"].to_pylist() == ["2", "0", "1"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("c.txt", "b\u2028c\r\na\r\n".encode()),  # a name may hold what other systems end lines by
        ("c.json", b'{"1": "a", "0": "b\\u2028c"}'),
        ("c.json", b'{"a": 1, "b\\u2028c": 0}'),
        ("c.json", b'{"model_type": "vit", "id2label": {"0": "b\\u2028c", "1": "a"}}'),
    ],
)
def test_class_lists_of_other_programs(tmp_path: Path, name: str, data: bytes):
    (tmp_path / name).write_bytes(data)
    assert read_classes(tmp_path / name) == ("b\u2028c", "a")


@pytest.mark.parametrize(
    "document", ['{"0": "a", "2": "b"}', '{"a": 1, "b": 2}', '"a"', '{"0": 1, "1": 0.5}']
)
def test_class_lists_that_name_no_order_are_refused(tmp_path: Path, document: str):
    (tmp_path / "c.json").write_text(document)
    with pytest.raises(LabelError, match="expected a list, or an object with the numbers 0 to"):
        read_classes(tmp_path / "c.json")
