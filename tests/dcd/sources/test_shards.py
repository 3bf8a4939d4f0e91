"""Listing sources as shards, locally and on S3; the shards table; fetching by id."""

import gzip
import os
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcd.config import DataConfig
from dcd.errors import DataError, ObjectNotFound, StoreError, StoreUnavailable
from dcd.sources import tar_members
from dcd.sources.listing import list_shards, look_through
from dcd.sources.records import RawImage, Reject, Shard
from dcd.sources.shards import fetch_images, read_shard, shards_from_table, shards_table
from dcd.store.filesystems import locate
from dcd.tables import schemas
from tests.dcd.sources.hostile import write_tar


def source(images: object) -> DataConfig:
    return DataConfig(images=str(images))  # pyright: ignore


def write_parquet(path: Path, ids: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image_id": ids, "image": [i.encode() for i in ids]}), path)
    return path


def test_a_glob_gives_a_shard_a_file(tmp_path: Path):
    for name in ("b", "a", "sub/c"):
        write_tar(tmp_path / f"{name}.tar", [("0.jpg", name.encode())])
    (tmp_path / "notes.txt").write_text("no archive")
    assert [s.name for s in list_shards(source(tmp_path / "*.tar"))] == ["a", "b"]
    below = list_shards(source(tmp_path / "**/*.tar"))
    assert [s.name for s in below[:2]] == ["a", "b"]
    assert below[2].name.startswith("sub-c-")
    assert [s.name for s in list_shards(source(tmp_path))] == [s.name for s in below]
    for shard in below:
        assert Path(shard.uri).is_absolute()
        assert "/" not in shard.name


def test_names_do_not_depend_on_the_other_files(tmp_path: Path):
    write_tar(tmp_path / "x/odd name.tar", [])
    (first,) = list_shards(source(tmp_path / "x"))
    write_tar(tmp_path / "x/odd?name.tar", [])
    write_tar(tmp_path / "x/odd-name.tar", [])
    names = [shard.name for shard in list_shards(source(tmp_path / "x"))]
    assert first.name in names
    assert "odd-name" in names
    assert len(set(names)) == 3


def test_two_files_of_one_name_are_refused(tmp_path: Path):
    write_tar(tmp_path / "a.tar", [])
    write_tar(tmp_path / "a.tgz", [])
    with pytest.raises(DataError, match=r"a\.tar and .*a\.tgz: both make the shard name 'a'"):
        list_shards(source(tmp_path))


def test_tars_go_before_the_parquet_files_beside_them(tmp_path: Path):
    write_tar(tmp_path / "00000.tar", [])
    write_parquet(tmp_path / "00000.parquet", ["metadata"])
    (tmp_path / "00000_stats.json").write_text("{}")
    assert [s.format for s in list_shards(source(tmp_path))] == ["webdataset"]


def test_a_path_with_brackets_is_a_path(tmp_path: Path):
    path = write_parquet(tmp_path / "set[1]/a.parquet", ["a", "b"])
    assert [s.n_images for s in list_shards(source(path))] == [2]
    assert [s.n_images for s in list_shards(source(path.parent))] == [2]


def test_sources_that_do_not_match_are_named(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat/a.jpg").write_bytes(b"a")
    write_tar(tmp_path / "a.tar", [])
    write_parquet(tmp_path / "b.parquet", ["a"])
    for images, message in (
        ("absent", "no such file, folder or bucket"),
        ("absent/*.tar", "no image source matches"),
        ("empty", "no image source matches"),
        ("cat/*.jpg", "name the folder of class folders"),
        ("cat/a.jpg", "name the folder of class folders"),
        ("*", "several formats"),
    ):
        with pytest.raises(DataError, match=message) as raised:
            list_shards(source(tmp_path / images))
        assert str(tmp_path / images) in str(raised.value)


def test_the_etag_changes_with_the_file(tmp_path: Path):
    path = write_tar(tmp_path / "a.tar", [("0.jpg", b"a")])
    (before,) = list_shards(source(path))
    assert list_shards(source(path)) == [before]
    status = path.stat()
    write_tar(path, [("0.jpg", b"b")])  # as long as before
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    (after,) = list_shards(source(path))
    assert after.etag != before.etag


def test_a_pipe_is_no_shard(tmp_path: Path):
    os.mkfifo(tmp_path / "a.tar")
    (shard,) = list_shards(source(tmp_path / "*.tar"))
    with pytest.raises(DataError, match="expected an object or a regular file"):
        list(read_shard(shard, source(tmp_path)))


def test_shards_survive_their_table(tmp_path: Path):
    shards = [
        Shard("a", "s3://bucket/a.tar", "webdataset", None, "e1"),
        Shard("b", "/b.parquet", "parquet", 5, "e2"),
    ]
    table = shards_table(shards)
    assert table.schema.equals(schemas.SHARDS)
    assert shards_from_table(table) == shards
    assert shards_from_table(shards_table([])) == []


def test_fetching_from_a_tar_stops_at_the_last_wanted(tmp_path: Path):
    members = [(f"{n}.jpg", b"%d" % n) for n in range(100)]
    path = write_tar(tmp_path / "s.tar", members)
    data = source(path)
    (shard,) = list_shards(data)
    expected = [RawImage("s/3", b"3", None), RawImage("s/70", b"70", None)]
    assert list(fetch_images(shard, data, ["s/70", "s/3"])) == expected
    path.write_bytes(path.read_bytes()[: 512 * 2 * 75])  # damage behind them does not matter
    assert list(fetch_images(shard, data, {"s/70", "s/3"})) == expected
    with pytest.raises(DataError, match="1 of 1 images are not in it any more, such as 's/99'"):
        list(fetch_images(shard, data, ["s/99"]))
    assert list(fetch_images(shard, data, [])) == []


def upload(folder: Path, url: str) -> None:
    located = locate(url)
    located.fs.put(f"{folder}/", located.path, recursive=True)


def test_s3_gives_what_the_folder_gives(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tar_members, "READ_BYTES", 100_000)  # several range requests a tar
    write_tar(tmp_path / "tars/0.tar", [(f"{n}.jpg", bytes([n]) * 40_000) for n in range(20)])
    write_tar(tmp_path / "tars/1.tar", [("0.png", b""), ("0.cls", b"4")])
    write_parquet(tmp_path / "tables/a.parquet", ["x", "y"])
    for name in ("cat/1.jpg", "cat/2.jpg", "cat2/1.jpg", "dog/1.jpg"):
        path = tmp_path / "classes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    (tmp_path / "classes/dog/empty.jpg").touch()
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/m.csv").write_text(
        f"uri,image_id\n{s3_url}/classes/cat/1.jpg,a\n../classes/dog/absent.jpg,b\n"
    )
    upload(tmp_path, s3_url)
    for part in ("tars/*.tar", "tars", "tables/a.parquet", "classes", "lists/m.csv"):
        here, there = source(tmp_path / part), source(f"{s3_url}/{part}")
        shards = list_shards(there)
        assert all(shard.uri.startswith("s3://") and shard.etag for shard in shards)
        assert [(s.name, s.format, s.n_images) for s in shards] == [
            (s.name, s.format, s.n_images) for s in list_shards(here)
        ]
        assert [item for shard in shards for item in read_shard(shard, there)] == [
            item for shard in list_shards(here) for item in read_shard(shard, here)
        ]


def test_s3_faults(tmp_path: Path, s3_url: str):
    with pytest.raises(DataError, match="no image source matches"):
        list_shards(source(f"{s3_url}/absent/*.tar"))
    with pytest.raises(DataError, match="s3://no-such-bucket-here/x"):
        list_shards(source("s3://no-such-bucket-here/x"))
    write_tar(tmp_path / "a.tar", [("0.jpg", b"a")])
    upload(tmp_path, s3_url)
    (shard,) = list_shards(source(s3_url))
    locate(s3_url).fs.rm(locate(shard.uri).path)
    with pytest.raises(ObjectNotFound, match=r"a\.tar"):
        list(read_shard(shard, source(s3_url)))


def test_a_short_answer_is_a_fault_of_the_store_not_of_the_tar(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
):
    write_tar(tmp_path / "a.tar", [(f"{n}.jpg", bytes(50_000)) for n in range(9)])
    upload(tmp_path, s3_url)
    data = source(s3_url)
    (shard,) = list_shards(data)
    assert len(list(read_shard(shard, data))) == 9
    filesystem: fsspec.AbstractFileSystem = locate(shard.uri).fs
    whole = filesystem.cat_file
    monkeypatch.setattr(filesystem, "cat_file", lambda *a, **k: whole(*a, **k)[:-1000])
    with pytest.raises(StoreUnavailable, match="the connection was cut"):
        list(read_shard(shard, data))


def test_folder_markers_of_s3_consoles_are_no_images(tmp_path: Path, s3_url: str):
    located = locate(s3_url)
    for key in ("train/", "train/cat/", "train/cat/sub/", "train/cat_$folder$"):
        located.fs.call_s3(
            "put_object",
            Bucket=located.path.split("/")[0],
            Body=b"",
            Key="/".join([*located.path.split("/")[1:], key]),
        )
    located.fs.pipe_file(f"{located.path}/train/cat/1.png", b"x")
    located.fs.pipe_file(f"{located.path}/train/README.md", b"#")
    for uri in (f"{s3_url}/train", f"{s3_url}/train/"):
        found = look_through(source(uri))
        assert [(s.name, s.n_images) for s in found.shards] == [("cat-00000", 1)]
        assert found.passed_over.counts == {"folder marker": 4, "no image": 1}
        (image,) = read_shard(found.shards[0], source(uri))
        assert image == RawImage("cat/1.png", b"x", "cat")


def test_keys_behind_a_double_slash_are_told(s3_url: str):
    located = locate(s3_url)
    for key in ("pool//cat/1.png", "pool/dog/2.png"):
        bucket, _, prefix = located.path.partition("/")
        located.fs.call_s3("put_object", Bucket=bucket, Body=b"x", Key=f"{prefix}/{key}")
    found = look_through(source(f"{s3_url}/pool"))
    assert [shard.name for shard in found.shards] == ["dog-00000"]
    assert "behind a double slash ('/cat/1.png')" in str(found.passed_over)


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("shard.00000.mds.zstd", "a shard of MosaicML's MDS"),
        ("index.json", "the index of MosaicML's MDS"),
        ("_versions/1.manifest", "a Lance dataset"),
        ("data-00000-of-00001.arrow", "what `datasets` writes"),
        ("x.tfrecord-00000-of-00001", "TFRecord"),
        ("data.mdb", "LMDB"),
        ("cats.zip", "a packed folder"),
    ],
)
def test_forms_that_are_not_read_are_named(tmp_path: Path, name: str, form: str):
    path = tmp_path / "pool" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    for images in (tmp_path / "pool", path):
        with pytest.raises(DataError, match=f"looks like {form}"):
            list_shards(source(str(images)))


@pytest.mark.parametrize("name", ["m.tsv", "m.csv.gz", "M.CSV"])
def test_manifests_have_the_suffixes_of_tables(tmp_path: Path, name: str):
    text = b"uri\tlabel\na.png\tcat\n"
    if "csv" in name.lower():
        text = text.replace(b"\t", b",")
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    (shard,) = list_shards(source(str(tmp_path / name)))
    assert (shard.format, shard.n_images) == ("manifest", 1)


def test_links_back_into_a_folder_above_are_not_followed(tmp_path: Path):
    (tmp_path / "real" / "cat").mkdir(parents=True)
    (tmp_path / "real" / "cat" / "a.png").write_bytes(b"x")
    (tmp_path / "pool").mkdir()
    (tmp_path / "pool" / "cat").symlink_to(tmp_path / "real" / "cat")
    (tmp_path / "real" / "cat" / "loop").symlink_to(tmp_path / "pool")
    data = source(str(tmp_path / "pool"))
    (shard,) = list_shards(data)
    assert shard.n_images == len(list(read_shard(shard, data))) == 1


def test_a_link_that_leads_nowhere_hides_no_other_match(tmp_path: Path):
    write_tar(tmp_path / "a.tar", [("0.jpg", b"a")])
    (tmp_path / "b.tar").symlink_to(tmp_path / "gone.tar")
    data = source(tmp_path / "*.tar")
    whole, gone = list_shards(data)
    assert [image.image_id for image in read_shard(whole, data)] == ["a/0"]
    with pytest.raises(ObjectNotFound, match=r"b\.tar"):
        list(read_shard(gone, data))


@pytest.mark.parametrize("noted", ["_delta_log/00000.json", "metadata/v1.metadata.json"])
def test_a_table_that_keeps_deleted_rows_is_refused(tmp_path: Path, noted: str):
    write_parquet(tmp_path / "t" / "part-0.parquet", ["a"])
    (tmp_path / "t" / noted).parent.mkdir()
    (tmp_path / "t" / noted).write_text("{}")
    with pytest.raises(DataError, match=r"Delta Lake or Iceberg .*rows that were deleted"):
        list_shards(source(tmp_path / "t"))
    assert len(list_shards(source(tmp_path / "t" / "*.parquet"))) == 1


@pytest.mark.parametrize("suffix", ["pq", "parq", "PARQUET"])
def test_parquet_has_other_suffixes_too(tmp_path: Path, suffix: str):
    (shard,) = list_shards(source(write_parquet(tmp_path / f"a.{suffix}", ["x"])))
    assert (shard.name, shard.format, shard.n_images) == ("a", "parquet", 1)


def test_a_manifest_without_rows_is_told(tmp_path: Path):
    (tmp_path / "m.csv").write_text("uri,label\n")
    with pytest.raises(DataError, match="is a manifest without rows"):
        list_shards(source(tmp_path / "m.csv"))


def test_paths_that_windows_wrote_are_told(tmp_path: Path):
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "0.png").write_bytes(b"x")
    (tmp_path / "m.csv").write_text("uri,label\ncat\\0.png,cat\n")
    data = source(tmp_path / "m.csv")
    (reject,) = read_shard(list_shards(data)[0], data)
    assert isinstance(reject, Reject)
    assert reject.reason.startswith("no such object; the name has backslashes")


@pytest.mark.parametrize("uri", ["zip::a.zip", "tar::a.tar"])
def test_chained_urls_are_named(uri: str):
    with pytest.raises(StoreError, match="URLs are not chained"):
        list_shards(source(uri))
