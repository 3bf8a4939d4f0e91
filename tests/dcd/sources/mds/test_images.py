"""MDS folders: those that the real library wrote (tests/data/mds/make.py), and faulty ones."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from dcd.config import DataConfig
from dcd.errors import DataError, LabelError
from dcd.images.decode import decode
from dcd.sources.listing import look_through, shard_listing_requests
from dcd.sources.mds.images import bytes_to_list, shard_file
from dcd.sources.mds.samples import reading_requests
from dcd.sources.records import ListedImage, RawImage, Reject
from dcd.sources.shards import fetch_images, list_images, read_shard
from tests.case import png
from tests.counted_requests import counted
from tests.mds import write_mds

WRITTEN = Path(__file__).parents[3] / "data" / "mds"
EXPECTED: dict[str, list[dict[str, str]]] = json.loads((WRITTEN / "expected.json").read_text())
IMAGES = [png(np.random.default_rng(n), "red", dark=False) for n in range(6)]
PLAIN = {"image": "bytes", "label": "str"}
NUMBERS = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]


def read(images: str | Path, **more: str) -> list[RawImage | Reject]:
    """All images; what lists them must say the same, and fetching one must find it."""
    data = DataConfig(images=str(images), **more)  # pyright: ignore
    found: list[RawImage | Reject] = []
    for shard in look_through(data).shards:
        of_shard = list(read_shard(shard, data))
        assert len(of_shard) == shard.n_images
        listed = [(i.image_id, i.weak_label) for i in list_images(shard, data) if is_listed(i)]  # pyright: ignore
        there = [i for i in of_shard if isinstance(i, RawImage)]
        assert {(i.image_id, i.weak_label) for i in there} <= set(listed)
        if there:
            assert list(fetch_images(shard, data, [there[-1].image_id])) == [there[-1]]
        found += of_shard
    return found


def is_listed(image: ListedImage | Reject) -> bool:
    return isinstance(image, ListedImage)


def labels(images: str | Path, **more: str) -> list[str | None]:
    return [i.weak_label if isinstance(i, RawImage) else i.reason for i in read(images, **more)]


def notes(images: Path) -> tuple[str, ...]:
    return look_through(DataConfig(images=str(images))).notes


@pytest.mark.parametrize("name", [name for name in EXPECTED if name != "packed_snappy"])
def test_the_pictures_and_labels_are_those_of_the_librarys_own_reader(name: str):
    found = read(WRITTEN / name)
    assert len(found) == len(EXPECTED[name])
    for image, expected in zip(found, EXPECTED[name], strict=True):
        assert isinstance(image, RawImage)
        assert image.weak_label == expected["label"]
        is_bytes = name == "plain" or name.startswith("packed")
        pixels = image.data if is_bytes else decode(image.data).tobytes()
        assert hashlib.sha256(pixels).hexdigest() == expected["image"], image.image_id


def test_every_encoding_of_a_label_is_read_by_the_rule_of_all_doors():
    found = {name: labels(WRITTEN / "kinds", label_column=name) for name in NUMBERS}
    assert found == {name: ["1", "0", "2"] for name in NUMBERS}
    for name in ("int", "str_int"):
        assert labels(WRITTEN / "kinds", label_column=name) == ["1", "0", "2"]
    for name in ("float16", "float32", "float64", "str_float"):
        assert labels(WRITTEN / "kinds", label_column=name) == ["1", "0.1", "2"]
    assert labels(WRITTEN / "kinds", label_column="str_decimal") == ["1.10", "2", "3"]
    assert labels(WRITTEN / "kinds", label_column="str") == ["cat", "dog", "犬"]
    *texts, refused = labels(WRITTEN / "kinds", label_column="bytes")
    assert texts == ["cat", "dog"]
    assert "not UTF-8" in str(refused)
    *texts, refused = labels(WRITTEN / "kinds", label_column="json")
    assert texts == ["cat", "1.5"]
    assert "the label is a list" in str(refused)


def test_ids_are_a_column_or_the_place():
    assert [i.image_id for i in read(WRITTEN / "kinds")] == ["i0", "i1", "i2"]
    assert [i.image_id for i in read(WRITTEN / "kinds", id_column="int8")] == ["1", "0", "2"]
    ids = [i.image_id for i in read(WRITTEN / "plain")]
    assert ids[0] == "shard.00000/0"
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("column", ["pkl", "ndarray", "list_png", "ndarray_float32_4"])
def test_encodings_that_hold_no_label_or_picture_are_named(column: str):
    encoding = column.replace("list_png", "list[png]").replace("y_float32_4", "y:float32:4")
    for option in ("label_column", "image_column", "id_column"):
        with pytest.raises(DataError) as caught:
            read(WRITTEN / "kinds", **{option: column})
        assert f"column {column!r} has the encoding {encoding!r}" in str(caught.value)
        assert option in str(caught.value)
        assert ("never unpickled" in str(caught.value)) == (column == "pkl")


def test_other_compressions_are_named_unless_the_shard_lies_there_unpacked(tmp_path: Path):
    with pytest.raises(DataError, match=r"mds\.snappy is compressed with 'snappy'; zstd, gz"):
        read(WRITTEN / "packed_snappy")
    shutil.copytree(WRITTEN / "packed_gz", tmp_path, dirs_exist_ok=True)
    for path in (WRITTEN / "plain").glob("*.mds"):  # as the library's cache keeps both
        shutil.copy(path, tmp_path)
    data = DataConfig(images=str(tmp_path))
    assert {bytes_to_list(shard) for shard in look_through(data).shards} == {0}


def test_the_writer_of_these_tests_writes_what_the_library_writes(tmp_path: Path):
    images = [i for i in read(WRITTEN / "plain") if isinstance(i, RawImage)]
    index = json.loads((WRITTEN / "plain" / "index.json").read_text())
    rows = iter((i.data, str(i.weak_label).encode()) for i in images)
    shards = [[next(rows) for _ in range(shard["samples"])] for shard in index["shards"]]
    write_mds(tmp_path, PLAIN, shards, hashes=["sha1", "xxh64"][:1], size_limit=700)
    for number, shard in enumerate(index["shards"]):
        ours = (tmp_path / f"shard.{number:05d}.mds").read_bytes()
        theirs = (WRITTEN / "plain" / shard["raw_data"]["basename"]).read_bytes()
        assert ours.replace(b'["sha1"]', b'["sha1", "xxh64"]')[-300:] == theirs[-300:]
        assert len(theirs) - len(ours) == len(', "xxh64"')


def test_an_index_stands_for_the_folders_below_it_and_without_it_each_is_taken(tmp_path: Path):
    assert [i.image_id.rpartition("/")[2] for i in read(WRITTEN / "merged")] == ["0", "1"] * 2
    assert not look_through(DataConfig(images=str(WRITTEN / "merged"))).passed_over.counts
    shutil.copytree(WRITTEN / "merged", tmp_path / "m")
    (tmp_path / "m" / "index.json").unlink()
    assert len(read(tmp_path / "m")) == 4
    assert notes(tmp_path / "m") == ("holds 2 sets of MDS (such as 0, 1); all are taken",)


def test_what_no_index_names_is_counted(tmp_path: Path):
    write_mds(tmp_path / "p", PLAIN, [[(IMAGES[0], b"cat")]])
    shutil.copy(tmp_path / "p" / "shard.00000.mds", tmp_path / "p" / "shard.00001.mds")
    for name in ("README.md", ".hidden"):
        (tmp_path / "p" / name).write_text("x")
    passed_over = look_through(DataConfig(images=str(tmp_path / "p"))).passed_over
    assert passed_over.counts == {"archive": 1, "no image": 1, "hidden": 1}


def test_archives_or_images_beside_shards_are_refused(tmp_path: Path):
    write_mds(tmp_path / "p", PLAIN, [[(IMAGES[0], b"cat")]])
    (tmp_path / "p" / "cat").mkdir()
    (tmp_path / "p" / "cat" / "a.png").write_bytes(IMAGES[0])
    with pytest.raises(DataError, match="shards of MDS beside 1 other archives or images"):
        read(tmp_path / "p")


def test_a_stray_file_of_that_name_leaves_class_folders_alone(tmp_path: Path):
    (tmp_path / "p" / "cat").mkdir(parents=True)
    (tmp_path / "p" / "cat" / "a.png").write_bytes(IMAGES[0])
    (tmp_path / "p" / "disc.mds").write_bytes(b"x")
    assert labels(tmp_path / "p") == ["cat"]


def test_a_shard_alone_names_the_folder_to_write(tmp_path: Path):
    write_mds(tmp_path / "p", PLAIN, [[(IMAGES[0], b"cat")]])
    for images in ("p/shard.00000.mds", "p/*.mds"):
        with pytest.raises(DataError, match=r"name the folder that holds its index\.json"):
            read(tmp_path / images)
    (tmp_path / "p" / "index.json").unlink()
    with pytest.raises(DataError, match=r"name the folder that holds its index\.json"):
        read(tmp_path / "p")


def test_codes_beside_names_and_differing_columns_are_told(tmp_path: Path):
    number = np.int64(3).tobytes()
    write_mds(tmp_path / "p" / "a", PLAIN, [[(IMAGES[0], b"cat")]])
    write_mds(tmp_path / "p" / "b", {"image": "bytes", "label": "int"}, [[(IMAGES[1], number)]])
    with pytest.raises(LabelError, match="its labels are bare numbers"):
        read(tmp_path / "p")
    shutil.rmtree(tmp_path / "p" / "b")
    weak = {"image": "bytes", "weak_label": "str"}
    write_mds(tmp_path / "p" / "b", weak, [[(IMAGES[1], b"dog")]])
    assert sorted(map(str, labels(tmp_path / "p"))) == ["cat", "dog"]
    assert any("different label columns" in note for note in notes(tmp_path / "p"))


def test_digests_that_cannot_be_computed_are_told(tmp_path: Path):
    write_mds(tmp_path / "p", PLAIN, [[(IMAGES[0], b"cat")]])
    _edit(tmp_path / "p", lambda shard: shard["raw_data"].update(hashes={"xxh64": "0"}))
    assert notes(tmp_path / "p") == ("digests of the kind xxh64 are not compared",)


def test_blank_values_are_rejects_or_images_without_label(tmp_path: Path):
    columns = {"image": "bytes", "image_id": "str", "label": "str"}
    rows = [(IMAGES[0], b"a", b" "), (b"", b"b", b"cat"), (IMAGES[1], b" ", b"cat")]
    write_mds(tmp_path / "p", columns, [rows])
    first, *rest = read(tmp_path / "p")
    assert isinstance(first, RawImage)
    assert first.weak_label is None
    assert [(i.image_id, i.reason) for i in rest if isinstance(i, Reject)] == [
        ("b", "no image bytes"),
        ("shard.00000/2", "no id in column 'image_id'"),
    ]


def _edit(folder: Path, change) -> None:
    index = json.loads((folder / "index.json").read_text())
    change(index["shards"][0])
    (folder / "index.json").write_text(json.dumps(index))


def _damaged(folder: Path) -> Iterator[tuple[str, str]]:
    """Damage a shard of three samples in several ways: what was done, and what is told."""
    path = folder / "shard.00000.mds"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    yield "cut", "its index says"
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    yield "flipped", "its sha256 is"
    path.write_bytes(whole)
    _edit(folder, lambda shard: shard["raw_data"].update(hashes={}))
    path.write_bytes(b"\xff" + whole[1:])
    yield "count", "holds 255 samples, its index says 3"
    path.write_bytes(b"")
    yield "emptied", "has 0 bytes"


def test_a_damaged_shard_is_a_reject_for_each_of_its_samples(tmp_path: Path):
    write_mds(tmp_path, PLAIN, [[(i, b"cat") for i in IMAGES[:3]]], hashes=["sha256"])
    data = DataConfig(images=str(tmp_path))
    for done, told in _damaged(tmp_path):
        (shard,) = look_through(data).shards
        found = list(read_shard(shard, data))
        assert len(found) == 3, done
        assert all(isinstance(i, Reject) and told in i.reason for i in found), (done, found)


def test_a_damaged_sample_costs_only_itself(tmp_path: Path):
    write_mds(tmp_path, PLAIN, [[(i, b"cat") for i in IMAGES[:3]]])
    path = tmp_path / "shard.00000.mds"
    whole = bytearray(path.read_bytes())
    start = int.from_bytes(whole[8:12], "little")  # of the second sample
    whole[start : start + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(whole)
    found = read(tmp_path)
    assert [isinstance(i, Reject) for i in found] == [False, True, False]


@pytest.mark.parametrize("codec", ["zstd", "gz", "bz2", "br"])
def test_damage_within_a_packed_shard_is_told(tmp_path: Path, codec: str):
    shutil.copytree(WRITTEN / f"packed_{codec}", tmp_path / "p")
    path = tmp_path / "p" / f"shard.00000.mds.{codec}"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    told = {"bytes": len(whole) // 2, "hashes": {}}
    _edit(tmp_path / "p", lambda shard: shard["zip_data"].update(told))
    found = read(tmp_path / "p")
    n = json.loads((tmp_path / "p" / "index.json").read_text())["shards"][0]["samples"]
    assert all(isinstance(i, Reject) for i in found[:n])
    assert all(isinstance(i, RawImage) for i in found[n:])


def test_a_changed_shard_has_another_etag_and_a_removed_one_is_named(tmp_path: Path):
    write_mds(tmp_path, PLAIN, [[(IMAGES[0], b"cat")]])
    data = DataConfig(images=str(tmp_path))
    (before,) = look_through(data).shards
    write_mds(tmp_path, PLAIN, [[(IMAGES[1], b"cat")]])
    (after,) = look_through(data).shards
    assert before.etag != after.etag
    _edit(tmp_path, lambda shard: shard["raw_data"].update(basename="other.mds"))
    with pytest.raises(DataError, match="does not name it any more"):
        list(read_shard(after, data))
    with pytest.raises(DataError, match=r"names other\.mds, and no such file lies there"):
        look_through(data)


def test_a_palette_that_mds_lost_is_a_reject(tmp_path: Path):
    bare = np.array([2, 2, 1], "<u4").tobytes() + b"P" + bytes(4)
    huge = np.array([2**31, 2**31, 1], "<u4").tobytes() + b"L"
    write_mds(tmp_path, {"image": "pil", "label": "str"}, [[(bare, b"a"), (huge, b"b")]])
    reasons = [i.reason for i in read(tmp_path) if isinstance(i, Reject)]
    assert "whose palette MDS does not keep" in reasons[0]
    assert "0 bytes for 2147483648×2147483648 pixels" in reasons[1]


def test_shards_on_an_object_store(s3_url: str):
    for name in ("plain", "packed_zstd"):
        for path in (WRITTEN / name).iterdir():
            with fsspec.open(f"{s3_url}/{name}/{path.name}", "wb") as file:
                file.write(path.read_bytes())  # pyright: ignore
        found = [(i.image_id, i.data) for i in read(f"{s3_url}/{name}") if isinstance(i, RawImage)]
        local = [(i.image_id, i.data) for i in read(WRITTEN / name) if isinstance(i, RawImage)]
        assert found == local


@pytest.mark.parametrize("name", ["plain", "packed_zstd"])
def test_the_server_gets_the_requests_that_are_told(
    s3_url: str, moto_endpoint: str, monkeypatch: pytest.MonkeyPatch, name: str
):
    for path in (WRITTEN / name).iterdir():
        with fsspec.open(f"{s3_url}/{name}/{path.name}", "wb") as file:
            file.write(path.read_bytes())  # pyright: ignore
    data = DataConfig(images=f"{s3_url}/{name}")
    with counted(moto_endpoint, monkeypatch) as requests:
        shards = look_through(data).shards
        assert requests.taken() == shard_listing_requests(data, shards)
        for shard in shards:
            n_bytes = shard_file(shard).bytes
            requests.taken()
            assert len(list(read_shard(shard, data))) == shard.n_images
            assert requests.taken() == reading_requests(n_bytes)
