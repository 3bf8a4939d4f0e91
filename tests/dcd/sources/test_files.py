"""Folders of class folders and manifests of URIs."""

import os
import unicodedata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcd.config import DataConfig
from dcd.errors import DataError
from dcd.sources import class_folders, files
from dcd.sources.listing import list_shards, look_through
from dcd.sources.records import RawImage, Reject, Shard
from dcd.sources.shards import fetch_images, list_images, read_shard


def put(root: Path, name: str, data: bytes = b"x") -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def source(path: Path, **config: str) -> DataConfig:
    return DataConfig(images=str(path), **config)  # pyright: ignore


def read(data: DataConfig) -> list[RawImage | Reject]:
    items = []
    for shard in list_shards(data):
        found = list(read_shard(shard, data))
        assert len(found) == shard.n_images, "every file is an image or a reject"
        items += found
    return items


def test_class_folders_are_labels(tmp_path: Path):
    put(tmp_path, "dog/b.jpg", b"b")
    put(tmp_path, "dog/a.PNG", b"a")
    put(tmp_path, "dog/more/c.webp", b"c")
    put(tmp_path, "großer hund/d.jpg", b"d")
    put(tmp_path, "loose.jpg", b"e")
    put(tmp_path, ".hidden/f.jpg")
    put(tmp_path, "dog/.DS_Store")
    assert read(source(tmp_path)) == [
        RawImage("dog/a.PNG", b"a", "dog"),
        RawImage("dog/b.jpg", b"b", "dog"),
        RawImage("dog/more/c.webp", b"c", "dog"),
        RawImage("großer hund/d.jpg", b"d", "großer hund"),
        RawImage("loose.jpg", b"e", None),
    ]


def test_pieces_of_a_large_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(class_folders, "PIECE_IMAGES", 40)
    monkeypatch.setattr(files, "PIECE_IMAGES", 40)
    for n in range(100):
        put(tmp_path, f"cat/{n:03d}.jpg", b"%d" % n)
    put(tmp_path, "dog/0.jpg")
    data = source(tmp_path)
    shards = list_shards(data)
    assert [(s.name, s.n_images) for s in shards] == [
        ("cat-00000", 40),
        ("cat-00001", 40),
        ("cat-00002", 20),
        ("dog-00000", 1),
    ]
    assert len({s.uri for s in shards}) == 4
    ids = [item.image_id for item in read(data)]
    assert ids == [f"cat/{n:03d}.jpg" for n in range(100)] + ["dog/0.jpg"]
    assert list(fetch_images(shards[1], data, ["cat/041.jpg"])) == [
        RawImage("cat/041.jpg", b"41", "cat")
    ]

    put(tmp_path, "cat/050.jpg", b"changed")
    put(tmp_path, "dog/1.jpg")
    now = {shard.name: shard.etag for shard in list_shards(data)}
    changed = [shard.name for shard in shards if now[shard.name] != shard.etag]
    assert changed == ["cat-00001", "dog-00000"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path):
    put(tmp_path / "elsewhere", "a.jpg", b"a")
    root = tmp_path / "root"
    put(root, "cat/b.jpg", b"b")
    (root / "cat/c.jpg").symlink_to(tmp_path / "elsewhere/a.jpg")
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (root / "cat/up").symlink_to(root)
    (root / "cat/z.jpg").symlink_to(tmp_path / "nowhere.jpg")
    assert read(source(root)) == [
        RawImage("cat/b.jpg", b"b", "cat"),
        RawImage("cat/c.jpg", b"a", "cat"),
        Reject("cat/z.jpg", "read", "not a regular file"),
        RawImage("dog/a.jpg", b"a", "dog"),
    ]


def test_a_pipe_named_like_an_image_does_not_hang(tmp_path: Path):
    put(tmp_path, "cat/a.jpg", b"a")
    os.mkfifo(tmp_path / "cat/b.jpg")
    assert read(source(tmp_path))[1] == Reject("cat/b.jpg", "read", "not a regular file")


def test_undecodable_names_and_sizes_over_the_limit(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(files, "MAX_IMAGE_BYTES", 3)
    put(tmp_path, "cat/a.jpg", b"1234")
    (tmp_path / "cat" / os.fsdecode(b"\xff.jpg")).write_bytes(b"b")
    assert read(source(tmp_path)) == [
        Reject("cat/a.jpg", "read", "4 bytes, at most 3 allowed"),
        RawImage("cat/\\xff.jpg", b"b", "cat"),
    ]


def test_a_manifest_names_images_anywhere(tmp_path: Path):
    absolute = put(tmp_path / "far", "a.jpg", b"a")
    put(tmp_path, "lists/near/b.jpg", b"b")
    put(
        tmp_path,
        "lists/pool.csv",
        f"uri,image_id,label\n{absolute},007,cat\nnear/b.jpg,,\nfile://{absolute},9,12\n"
        "near/absent.jpg,x,cat\nhttp://host/c.jpg,y,cat\n,z,cat\nnear/b.jpg,007,dog\n"
        "/dev/zero,w,cat\n".encode(),
    )
    data = source(tmp_path / "lists/pool.csv")
    (shard,) = list_shards(data)
    assert (shard.name, shard.format, shard.n_images) == ("pool-00000", "manifest", 8)
    images = read(data)
    assert images[:4] == [
        RawImage("007", b"a", "cat"),
        RawImage("near/b.jpg", b"b", None),
        RawImage("9", b"a", "12"),
        Reject("x", "read", "no such object"),
    ]
    assert [(item.image_id, type(item)) for item in images[4:]] == [
        ("y", Reject),
        ("pool-00000/5", Reject),
        ("007", Reject),
        ("w", Reject),
    ]
    assert "cannot open 'http://" in getattr(images[4], "reason", "")
    assert [image.image_id for image in fetch_images(shard, data, ["9"])] == ["9"]


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("a" * 5000 + ".png", "no such object"),
        ("x/" * 3000 + "a.png", "no such object"),
        ("pool.csv/a.png", "no such object"),  # through a file
        ("circle/a.png", "no such object"),
        ("100%00.png", "no such object"),
        ("a\0.png", "holds a NUL character"),
        ("file:///a%00b.png", "holds a NUL character"),
        ("s3://bucket/a\0b.png", "holds a NUL character"),
    ],
    ids=lambda text: text[:20],
)
def test_a_row_that_can_name_nothing_costs_no_other_row(tmp_path: Path, uri: str, reason: str):
    (tmp_path / "circle").symlink_to("circle")
    put(tmp_path, "b.png", b"b")
    put(tmp_path, "pool.csv", f"image_id,uri\na,{uri}\nb,b.png\n".encode())
    refused, found = read(source(tmp_path / "pool.csv"))
    assert isinstance(refused, Reject)
    assert reason in refused.reason
    assert found == RawImage("b", b"b", None)


def test_a_key_that_s3_cannot_have_is_no_object(s3_url: str, tmp_path: Path):
    rows = f"image_id,uri\na,{s3_url}/{'a' * 1100}.png\n"
    put(tmp_path, "pool.csv", rows.encode())
    assert read(source(tmp_path / "pool.csv")) == [Reject("a", "read", "no such object")]


def test_a_parquet_manifest_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dcd.sources.files.PIECE_IMAGES", 4)
    monkeypatch.setattr("dcd.sources.archives.PIECE_IMAGES", 4)
    for n in range(10):
        put(tmp_path, f"{n}.jpg", b"%d" % n)
    table = pa.table({"uri": [f"{n}.jpg" for n in range(10)], "tag": [f"t{n}" for n in range(10)]})
    pq.write_table(table, tmp_path / "m.parquet")
    data = source(tmp_path / "m.parquet", label_column="tag")
    assert [shard.n_images for shard in list_shards(data)] == [4, 4, 2]
    assert read(data) == [RawImage(f"{n}.jpg", b"%d" % n, f"t{n}") for n in range(10)]


@pytest.mark.parametrize("n_rows", [1, 3, 4, 7, 12])
def test_pieces_of_a_manifest_hold_together_what_the_whole_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_rows: int
):
    names = [f"{n}.jpg" for n in range(30)]
    table = pa.table({"uri": names, "image_id": [f"i{n}" for n in range(30)]})
    labels = pa.array([None if n % 5 == 0 else f"c{n % 3} " for n in range(30)])
    for name in names:
        put(tmp_path, name, name.encode())
    data = source(tmp_path / "m.parquet")
    pq.write_table(table.append_column("label", labels.dictionary_encode()), tmp_path / "m.parquet")
    whole = read(data)
    batches = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile, "iter_batches", lambda file, **more: batches(file, n_rows, **more)
    )
    monkeypatch.setattr("dcd.sources.files.PIECE_IMAGES", 4)
    monkeypatch.setattr("dcd.sources.archives.PIECE_IMAGES", 4)
    assert [shard.n_images for shard in list_shards(data)] == [4] * 7 + [2]
    assert len(whole) == 30
    assert read(data) == whole


def test_the_rows_before_a_piece_are_not_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dcd.sources.files.PIECE_IMAGES", 4)
    put(tmp_path, "m.csv", b"uri\n" + b"".join(b"%d.jpg\n" % n for n in range(10)))
    made = []
    row = files._Row
    monkeypatch.setattr(files, "_Row", lambda at, *more: made.append(at) or row(at, *more))
    shard = Shard("m-00002", f"{tmp_path / 'm.csv'}#00002", "manifest", 2, "e")
    assert [item.image_id for item in list_images(shard, source(tmp_path / "m.csv"))] == made
    assert made == ["8.jpg", "9.jpg"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"path,label\na.jpg,cat\n", "a manifest needs a column 'uri'"),
        (b"uri,label\na.jpg,cat,dog\n", "not a readable manifest"),
        (b"", "not a readable manifest"),
    ],
)
def test_a_bad_manifest_is_named(tmp_path: Path, content: bytes, message: str):
    put(tmp_path, "m.csv", content)
    with pytest.raises(DataError, match=message):
        list_shards(source(tmp_path / "m.csv"))


def test_what_is_no_image_is_passed_over_and_named(tmp_path: Path):
    for name in ("cat/0.png", "cat/1.JPEG", "cat/Foto 100%.jfif", "dog/0", "dog/x/0.webp"):
        put(tmp_path, name)
    others = ["README.md", "metadata.csv", "classes.txt", "LICENSE", "cat/Thumbs.db", "cat/n.zip"]
    for name in [*others, ".DS_Store", "cat/._0.png", "__MACOSX/cat/0.png"]:
        put(tmp_path, name)
    put(tmp_path, ".ipynb_checkpoints/a/b.png")
    put(tmp_path, "dog/empty", b"")
    put(tmp_path, "dog/drawing.SVG")
    found = look_through(source(tmp_path))
    assert found.passed_over.counts == {
        "hidden": 4,
        "no image": 5,
        "archive": 1,
        "folder marker": 1,
    }
    items = {item.image_id: item for item in read(source(tmp_path))}
    assert isinstance(items.pop("dog/drawing.SVG"), Reject)
    assert sorted(items) == [
        "cat/0.png",
        "cat/1.JPEG",
        "cat/Foto 100%.jfif",
        "dog/0",
        "dog/x/0.webp",
    ]


def test_a_folder_without_classes_may_have_images_without_suffix(tmp_path: Path):
    put(tmp_path, "0001", b"a")
    put(tmp_path, "0002", b"b")
    assert [item.image_id for item in read(source(tmp_path))] == ["0001", "0002"]


def test_label_files_count_where_they_are_named_or_img2dataset_wrote_them(tmp_path: Path):
    for shard in ("00000", "00001"):
        for n in range(2):
            put(tmp_path, f"{shard}/{shard}{n}.jpg", b"x")
            put(tmp_path, f"{shard}/{shard}{n}.txt", b"a cat")
            put(tmp_path, f"{shard}/{shard}{n}.json", b'{"caption": "a cat", "tag": "cat"}')
        put(tmp_path, f"{shard}_stats.json", b"{}")
        pq.write_table(pa.table({"url": ["x"]}), tmp_path / f"{shard}.parquet")
    found = look_through(source(tmp_path))
    assert found.passed_over.counts == {"no image": 2, "table": 2}
    assert {getattr(item, "weak_label", "") for item in read(source(tmp_path))} == {"a cat"}
    by_field = source(tmp_path, label_column="tag")
    assert {getattr(item, "weak_label", "") for item in read(by_field)} == {"cat"}
    listed = [image for shard in found.shards for image in list_images(shard, source(tmp_path))]
    assert [image.weak_label for image in listed] == ["a cat"] * 4

    put(tmp_path / "classes", "cat/0.jpg", b"x")
    put(tmp_path / "classes", "cat/0.txt", b"a photo of a cat")
    plain = source(tmp_path / "classes")
    assert [getattr(item, "weak_label", "") for item in read(plain)] == ["cat"]
    assert look_through(plain).passed_over.counts == {"label file": 1}
    named = source(tmp_path / "classes", label_column="txt")
    assert [getattr(item, "weak_label", "") for item in read(named)] == ["a photo of a cat"]


def test_sources_that_could_be_two_are_refused(tmp_path: Path):
    put(tmp_path, "cat/0.png")
    put(tmp_path, "old.tar", b"")
    with pytest.raises(DataError, match=r"1 archives \(such as .*old\.tar\) beside 1 images"):
        list_shards(source(tmp_path))
    (tmp_path / "old.tar").unlink()
    put(tmp_path, "label=dog/0.png")
    with pytest.raises(DataError, match=r"'label=dog' is named like a Hive partition.*'dog'"):
        list_shards(source(tmp_path))


def test_braces_are_told_how_to_write_them(tmp_path: Path):
    put(tmp_path, "000.tar", b"")
    for braces in ("{000..010}.tar", "{000,001}.tar"):
        with pytest.raises(
            DataError, match=r"braces are not expanded: write a glob such as .*\*\.tar"
        ):
            list_shards(source(tmp_path / braces))


@pytest.mark.parametrize(
    ("on_disk", "written"),
    [
        (unicodedata.normalize("NFD", "café.png"), unicodedata.normalize("NFD", "café.png")),
        (unicodedata.normalize("NFD", "café.png"), unicodedata.normalize("NFC", "café.png")),
        (unicodedata.normalize("NFC", "café.png"), unicodedata.normalize("NFD", "café.png")),
        (" a .png ", " a .png "),
        ("a.png", " a.png "),
        ("soft\u00ad", "soft\u00ad"),
    ],
)
def test_a_manifest_finds_files_whose_names_are_written_so(
    tmp_path: Path, on_disk: str, written: str
):
    """Ids are composed and trimmed; a file has the name that its system gave it."""
    put(tmp_path, on_disk, b"x")
    put(tmp_path, "m.csv", f'image_id,uri\n1,"{written}"\n'.encode())
    assert read(source(tmp_path / "m.csv")) == [RawImage("1", b"x", None)]
    [shard] = list_shards(source(tmp_path / "m.csv"))
    assert list(files.absent_files(shard, source(tmp_path / "m.csv"), 1)) == [None]
    row = {"image": {"bytes": None, "path": written.strip()}}
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    pq.write_table(pa.table({"image": pa.array([row["image"]], kind)}), tmp_path / "t.parquet")
    if on_disk == on_disk.strip():
        [found] = read(source(tmp_path / "t.parquet"))
        assert isinstance(found, RawImage)


def test_of_two_files_whose_names_look_alike_a_row_names_its_own(tmp_path: Path):
    for form in ("NFC", "NFD"):
        put(tmp_path, unicodedata.normalize(form, "é.png"), form.encode())
    rows = [f"{form},{unicodedata.normalize(form, 'é.png')}\n" for form in ("NFC", "NFD")]
    put(tmp_path, "m.csv", f"image_id,uri\n{''.join(rows)}".encode())
    assert read(source(tmp_path / "m.csv")) == [
        RawImage("NFC", b"NFC", None),
        RawImage("NFD", b"NFD", None),
    ]


@pytest.mark.parametrize("column", ["file_name", "URI", "path"])
def test_a_manifest_under_other_names_is_told_which_to_rename(tmp_path: Path, column: str):
    put(tmp_path, "m.csv", f"label,{column}\ncat,a.png\n".encode())
    with pytest.raises(DataError, match=f"rename '{column}' to 'uri'"):
        list_shards(source(tmp_path / "m.csv"))


@pytest.mark.parametrize("folder", ["a [1]", "x*y", "q?", "[ab]/c"])
def test_brackets_and_stars_in_the_name_of_a_folder_are_its_name(tmp_path: Path, folder: str):
    put(tmp_path, f"{folder}/m0.csv", b"uri\na.png\n")
    put(tmp_path, f"{folder}/m1.csv", b"uri\na.png\n")
    found = [shard.name for shard in list_shards(source(tmp_path / folder / "*.csv"))]
    assert found == ["m0-00000", "m1-00000"]


def test_a_glob_that_is_none_is_told(tmp_path: Path):
    with pytest.raises(DataError, match="is no glob that can be read"):
        list_shards(source(tmp_path / "a**b" / "*.csv"))


def test_a_list_in_json_is_told(tmp_path: Path):
    put(tmp_path, "m.jsonl", b'{"uri": "a.png"}')
    with pytest.raises(DataError, match="looks like a list in JSON"):
        list_shards(source(tmp_path / "m.jsonl"))


def test_a_manifest_of_spark_names_files_with_one_slash(tmp_path: Path):
    path = put(tmp_path / "far", "a b.png", b"x")
    put(tmp_path, "m.csv", f"image_id,uri\n1,file:{path.parent}/a%20b.png\n".encode())
    assert read(source(tmp_path / "m.csv")) == [RawImage("1", b"x", None)]
