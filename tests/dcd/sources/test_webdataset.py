"""WebDataset tars: samples and labels; hostile archives, each with what must come of it."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dcd.config import DataConfig
from dcd.sources import tar_members, webdataset
from dcd.sources.listing import list_shards
from dcd.sources.passed_over import PassedOver
from dcd.sources.records import RawImage, Reject
from dcd.sources.shards import read_shard
from tests.dcd.sources.hostile import write_tar

Outcome = tuple[str, str | None]  # image id, and its label or the fragment of a reject's reason
ANY_IMAGE = b"\xff\xd8 any bytes: the reader does not look into them"


def read(path: Path, **config: str) -> list[RawImage | Reject]:
    data = DataConfig(images=str(path), **config)  # pyright: ignore
    return [item for shard in list_shards(data) for item in read_shard(shard, data)]


def found(path: Path, **config: str) -> list[tuple[str, str | None]]:
    """Images with their labels, rejects as 'stage: reason'."""
    return [
        (item.image_id, item.weak_label)
        if isinstance(item, RawImage)
        else (item.image_id, f"{item.stage}: {item.reason}")
        for item in read(path, **config)
    ]


def entry(name: str, data: bytes = ANY_IMAGE, **fields: object) -> bytes:
    """One member with its header, padded to blocks."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info.tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


END = bytes(1024)
ONE, TWO, THREE = (entry(f"{n}.jpg") for n in (1, 2, 3))


def deep_json(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


def test_samples_keep_their_order_bytes_and_labels(tmp_path: Path):
    path = write_tar(
        tmp_path / "00000.tar",
        [
            ("b/0.jpg", b"zero"),
            ("b/0.json", json.dumps({"weak_label": "cat", "label": "dog"}).encode()),
            ("./a.1.PNG", b"not exactly png, so an image of its own"),
            ("2.json", b'{"label": 7}'),
            ("2.WebP", b"two"),
            ("3.gif", b"three"),
            ("3.cls", b"12\n"),
            ("4.bmp", b"four"),
            ("4.txt", " Zürich ".encode()),
            ("5.jpeg", b"five"),
        ],
    )
    assert found(path) == [
        ("00000/b/0", "cat"),
        ("00000/a.1", None),
        ("00000/2", "7"),
        ("00000/3", "12"),
        ("00000/4", "Zürich"),
        ("00000/5", None),
    ]
    images = [item for item in read(path) if isinstance(item, RawImage)]
    assert (images[0].data, images[-1].data) == (b"zero", b"five")


@pytest.mark.parametrize(
    ("column", "label"),
    [(None, "weak"), ("label", "right"), ("query", "asked"), ("cls", "3"), ("absent", None)],
)
def test_the_label_column_says_which_label(tmp_path: Path, column: str | None, label: str | None):
    record = {"weak_label": "weak", "label": "right", "query": "asked"}
    path = write_tar(
        tmp_path / "s.tar",
        [("0.jpg", ANY_IMAGE), ("0.json", json.dumps(record).encode()), ("0.cls", b"3")],
    )
    config = {} if column is None else {"label_column": column}
    assert found(path, **config) == [("s/0", label)]


LABEL_CASES: dict[str, tuple[str, bytes, str]] = {
    "broken_json": ("json", b'{"label": ', "label: unreadable label"),
    "json_list": ("json", b"[1, 2]", "expected an object or a label, found a list"),
    "list_label": ("json", b'{"label": ["a", "b"]}', "the label is a list"),
    "object_label": ("json", b'{"label": {"name": "cat"}}', "the label is a dict"),
    "label_twice": ("json", b'{"label": "cat", "label": "dog"}', "'label' stands twice"),
    "endless_number": ("json", b'{"label": 1e999}', "the number inf"),
    "lone_surrogate": ("json", b'{"label": "\\ud800"}', "surrogates not allowed"),
    "deeply_nested": ("json", deep_json(200_000), "maximum recursion depth"),
    "number_of_5000_digits": ("json", b'{"label": %s}' % (b"9" * 5000), "label: "),
    "binary_text": ("txt", b"\xff\xfe\x00", "can't decode"),
    "endless_text": ("txt", b"a" * 20_000, "20000 characters"),
    "text_over_limit": ("txt", b"a" * (2**20 + 1), "1048577 bytes, at most"),
}


@pytest.mark.parametrize("case", LABEL_CASES.values(), ids=LABEL_CASES.keys())
def test_an_unreadable_label_rejects_its_image_only(tmp_path: Path, case: tuple[str, bytes, str]):
    suffix, content, reason = case
    path = write_tar(
        tmp_path / "s.tar", [("0.jpg", ANY_IMAGE), (f"0.{suffix}", content), ("1.jpg", ANY_IMAGE)]
    )
    (first, why), second = found(path)
    assert first == "s/0"
    assert why is not None
    assert why.startswith("label: ")
    assert reason in why
    assert second == ("s/1", None)


ARCHIVES: dict[str, tuple[bytes, list[Outcome]]] = {
    "zero_bytes": (b"", [("s", "read: damaged")]),
    "html": (b"<html>404</html>", [("s", "read: damaged")]),
    "random": (bytes(range(256)) * 20, [("s", "read: damaged")]),
    "empty_archive": (END, []),
    "symbolic_link": (
        ONE + entry("2.jpg", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd") + THREE + END,
        [("s/2.jpg", "read: a link"), ("s/1", None), ("s/3", None)],
    ),
    "hard_link": (
        ONE + entry("2.jpg", b"", type=tarfile.LNKTYPE, linkname="1.jpg") + END,
        [("s/2.jpg", "read: a link"), ("s/1", None)],
    ),
    "device": (
        entry("0.jpg", b"", type=tarfile.CHRTYPE, devmajor=1, devminor=5) + ONE + END,
        [("s/0.jpg", "read: not a regular file"), ("s/1", None)],
    ),
    "pipe": (
        entry("0.jpg", b"", type=tarfile.FIFOTYPE) + ONE + END,
        [("s/0.jpg", "read: not a regular file"), ("s/1", None)],
    ),
    "path_upwards": (
        entry("../../etc/cron.d/0.jpg") + ONE + END,
        [("s/../../etc/cron.d/0.jpg", "read: its name leads out"), ("s/1", None)],
    ),
    "path_upwards_inside": (
        entry("a/../../0.jpg") + END,
        [("s/a/../../0.jpg", "read: its name leads out")],
    ),
    "absolute_path": (entry("/tmp/0.jpg") + END, [("s//tmp/0.jpg", "read: its name leads out")]),
    "folder": (entry("a/", b"", type=tarfile.DIRTYPE) + ONE + END, [("s/1", None)]),
    "undecodable_name": (entry("\udcff.jpg") + END, [("s/\\xff", None)]),
    "endless_name": (
        entry("a" * 3000 + ".jpg") + ONE + END,
        [("s/" + "a" * 1021 + "…", "read: its name has 3002 characters"), ("s/1", None)],
    ),
    "only_metadata": (
        entry("0.json", b"{}") + entry("0.npy") + ONE + END,
        [("s/0", "read: no image among the members of its key: .json, .npy"), ("s/1", None)],
    ),
    "unsupported_image": (
        entry("0.svg") + ONE + END,
        [("s/0", "read: SVG is a drawing without pixels"), ("s/1", None)],
    ),
    "label_far_from_its_image": (
        entry("0.jpg") + ONE + entry("0.cls", b"5") + END,
        [
            ("s/0", None),
            ("s/1", None),
            ("s/0", "read: stands apart from the image of its key"),
        ],
    ),
    "two_images_of_a_key": (
        entry("0.jpg") + entry("0.png") + END,
        [("s/0.png", "read: a second image under one key; jpg was taken"), ("s/0", None)],
    ),
    "two_views_of_a_key": (
        entry("0.left.jpg") + entry("0.right.jpg") + entry("0.cls", b"5") + END,
        [("s/0.left", "5"), ("s/0.right", "5")],
    ),
    "mask_beside_its_image": (
        entry("0.mask.png") + entry("0.jpg") + END,
        [("s/0", None)],
    ),
    "same_key_again": (
        entry("0.jpg") + ONE + entry("0.jpg", b"other") + END,
        [("s/0", None), ("s/1", None), ("s/0", "read: an earlier image of this shard")],
    ),
    "cut_inside_a_member": (
        ONE + TWO[:540],
        [("s/2.jpg", "read: damaged archive"), ("s/1", None)],
    ),
    "cut_inside_a_header": (ONE + TWO[:300], [("s/1.jpg", "read: damaged"), ("s/1", None)]),
    "cut_between_members": (
        ONE + TWO,
        [("s/1", None), ("s/2.jpg", "read: damaged archive"), ("s/2", None)],
    ),
    "garbage_between_members": (
        ONE + b"\x07" * 512 + TWO + END,
        [("s/1.jpg", "read: damaged archive"), ("s/1", None)],
    ),
    "archives_joined": (
        ONE + END + TWO + END,
        [("s/1.jpg", "read: damaged archive"), ("s/1", None)],
    ),
    "header_claims_too_much": (
        ONE + entry("2.jpg", b"x" * 512, size=2**40) + THREE + END,
        [("s/1", None), ("s/2.jpg", "read: damaged"), ("s/2", "read: 1099511627776 bytes, at")],
    ),
    "negative_size": (
        ONE + entry("2.jpg", b"", size=-512) + THREE + END,
        [("s/1.jpg", "read: damaged"), ("s/1", None)],
    ),
    "sparse_member": (
        ONE + entry("2.jpg", b"", type=tarfile.GNUTYPE_SPARSE) + THREE + END,
        [("s/2.jpg", "read: not a regular file"), ("s/1", None), ("s/3", None)],
    ),
    "endless_extended_header": (
        ONE + entry("x", bytes(2 * 2**20), type=tarfile.GNUTYPE_LONGNAME) + TWO + END,
        [("s/1.jpg", "read: damaged"), ("s/1", None)],
    ),
    "thousands_of_extended_headers": (
        ONE + entry("x", b"y\0", type=tarfile.GNUTYPE_LONGNAME) * 3000 + TWO + END,
        [("s/1.jpg", "read: damaged"), ("s/1", None)],
    ),
}


@pytest.mark.parametrize("case", ARCHIVES.values(), ids=ARCHIVES.keys())
def test_hostile_archives(tmp_path: Path, case: tuple[bytes, list[Outcome]]):
    content, expected = case
    (tmp_path / "s.tar").write_bytes(content)
    outcomes = found(tmp_path / "s.tar")
    assert [image_id for image_id, _ in outcomes] == [image_id for image_id, _ in expected]
    for (_, told), (_, wanted) in zip(outcomes, expected, strict=True):
        if wanted is not None and wanted.startswith("read: "):
            assert told is not None
            assert wanted in told
        else:
            assert told == wanted
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "s.tar"], "nothing was extracted"


@pytest.mark.parametrize("compressor", [gzip, bz2, lzma], ids=["gz", "bz2", "xz"])
def test_compressed_archives(tmp_path: Path, compressor: Any, request: pytest.FixtureRequest):
    path = tmp_path / f"s.tar.{request.node.callspec.id}"
    path.write_bytes(compressor.compress(ONE + TWO + THREE + END))
    assert found(path) == [("s/1", None), ("s/2", None), ("s/3", None)]

    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    *_, (_, reason) = found(path)
    assert reason is not None
    assert "damaged archive" in reason


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        ("s.tgz", gzip.compress),
        ("s.tbz2", bz2.compress),
        ("s.txz", lzma.compress),
        ("s.tzst", lambda data: pa.Codec("zstd").compress(data, asbytes=True)),
    ],
)
def test_packed_streams_behind_each_other_are_one_archive(tmp_path: Path, name: str, packed: Any):
    """As pigz -i, pbzip2, pixz and pzstd write them, cut anywhere."""
    whole = ONE + TWO + THREE + END
    (tmp_path / name).write_bytes(packed(whole[:1300]) + packed(whole[1300:]))
    assert found(tmp_path / name) == [("s/1", None), ("s/2", None), ("s/3", None)]


def test_an_image_over_the_limit_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tar_members, "MAX_IMAGE_BYTES", 1000)
    path = write_tar(tmp_path / "s.tar", [("0.jpg", bytes(1001)), ("1.jpg", bytes(1000))])
    assert found(path) == [
        ("s/0", "read: 1001 bytes, at most 1000 allowed"),
        ("s/1", None),
    ]


def test_views_of_one_key_are_held_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(webdataset, "_MAX_SAMPLE_BYTES", 2500)
    path = write_tar(tmp_path / "s.tar", [(f"0.{n}.jpg", bytes(1000)) for n in range(4)])
    assert found(path) == [
        ("s/0.0", None),
        ("s/0.1", None),
        ("s/0.2", "read: its sample is too large"),
        ("s/0.3", "read: its sample is too large"),
    ]


def test_members_of_one_key_are_held_up_to_a_limit(tmp_path: Path):
    path = write_tar(tmp_path / "s.tar", [(f"0.{n}.jpg", b"") for n in range(300)])
    images, rejects = found(path)[44:], found(path)[:44]
    assert images == [(f"s/0.{n}", None) for n in range(256)]
    assert rejects == [
        (f"s/0.{n}.jpg", "read: its key has over 256 members") for n in range(256, 300)
    ]


def with_checksums(content: bytearray) -> bytes:
    """Header checksums made right again, so that tarfile believes what was changed."""
    for start in range(0, len(content) - 511, 512):
        header = content[start : start + 512]
        if header[257:262] == b"ustar":
            total = sum(header[:148]) + 256 + sum(header[156:])
            content[start + 148 : start + 156] = b"%06o\0 " % (total % 8**6)
    return bytes(content)


def _archive(tar_format: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tar_format) as archive:
        for name in ("é/0.jpg", "é/0.json", "x" * 150 + ".png", "2.jpg"):
            info = tarfile.TarInfo(name)
            info.size = 300
            archive.addfile(info, io.BytesIO(b"7" * 300))
    return buffer.getvalue()


HEADER_FIELDS = (0, 100, 124, 135, 148, 156, 157, 257, 345, 386, 482, 483)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    archive=st.sampled_from([_archive(tarfile.GNU_FORMAT), _archive(tarfile.PAX_FORMAT)]),
    edits=st.lists(
        st.tuples(
            st.floats(0, 0.999),
            st.sampled_from(HEADER_FIELDS),
            st.sampled_from([b"\xff" * 12, b"\x80" + bytes(10) + b"\xff", b"-1 ", b"x", b"L", b"K"])
            | st.binary(max_size=13),
        ),
        max_size=5,
    ),
    cut=st.none() | st.integers(0, 6000),
    repair=st.booleans(),
)
def test_no_archive_raises_or_hangs(tmp_path: Path, archive, edits, cut, repair: bool):
    content = bytearray(archive)
    for place, field, value in edits:
        start = int(place * len(content)) // 512 * 512 + field
        content[start : start + len(value)] = value
    path = tmp_path / "s.tar"
    path.write_bytes((with_checksums(content) if repair else bytes(content))[:cut])
    for item in read(path):
        item.image_id.encode()
        assert isinstance(item, RawImage) or item.reason


def labels_of(path: Path, **config: str) -> dict[str, str | None]:
    data = DataConfig(images=str(path), **config)  # pyright: ignore
    (shard,) = list_shards(data)
    images = [item for item in read_shard(shard, data) if isinstance(item, RawImage)]
    return {image.image_id: image.weak_label for image in images}


def test_a_key_with_dots_is_labelled_by_its_own_stem_first(tmp_path: Path):
    members = [
        ("shot_1.5x.png", b"a"),
        ("shot_1.5x.cls", b"cat"),
        ("shot_1.7x.png", b"b"),
        ("shot_1.cls", b"dog"),
        ("v1.0/7.PNG", b"c"),
        ("v1.0/7.CLS", b"fox"),
    ]
    assert labels_of(write_tar(tmp_path / "s.tar", members)) == {
        "s/shot_1.5x": "cat",
        "s/shot_1.7x": "dog",
        "s/v1.0/7": "fox",
    }


def test_a_dotted_image_with_a_label_of_its_own_stands_beside_the_plain_one(tmp_path: Path):
    members = [("a.png", b"1"), ("a.cls", b"cat"), ("a.5x.png", b"2"), ("a.5x.txt", b"dog")]
    path = write_tar(tmp_path / "s.tar", [*members, ("a.mask.png", b"3")])
    assert labels_of(path) == {"s/a": "cat", "s/a.5x": "dog"}
    tally = PassedOver()
    data = DataConfig(images=str(path))
    list(read_shard(list_shards(data)[0], data, tally))
    assert tally.examples == {"other view": ["a.mask.png"]}


@pytest.mark.parametrize(
    ("column", "name", "content"),
    [
        ("cls", "0.cls", b"cat"),
        ("target", "0.target", b"cat"),
        ("Caption", "0.caption", b"cat"),
        ("label.txt", "0.label.txt", b"cat"),
        ("query", "0.json", b'{"query": "cat", "label": "dog"}'),
        (None, "0.json", b'"cat"'),
        (None, "0.json", b"\xef\xbb\xbf" + b'{"label": "cat"}'),
    ],
)
def test_label_column_names_a_field_or_a_member(
    tmp_path: Path, column: str | None, name: str, content: bytes
):
    path = write_tar(tmp_path / "s.tar", [("0.jpg", b"a"), (name, content)])
    named = {} if column is None else {"label_column": column}
    assert labels_of(path, **named) == {"s/0": "cat"}


def test_hidden_members_tear_no_sample(tmp_path: Path):
    members = []
    for name, data in (("d/0.cls", b"cat"), ("d/0.png", b"x"), ("./d/1.png", b"y")):
        folder, _, base = name.rpartition("/")
        members += [(f"{folder}/._{base}", b"\0\5\x16\7"), (name, data)]
    members += [("__MACOSX/d/2.png", b"z"), ("d/.DS_Store", b""), ("README.md", b"#")]
    path = write_tar(tmp_path / "s.tar", members)
    assert labels_of(path) == {"s/d/0": "cat", "s/d/1": None}
    tally = PassedOver()
    data = DataConfig(images=str(path))
    assert all(isinstance(item, RawImage) for item in read_shard(list_shards(data)[0], data, tally))
    assert tally.counts == {"hidden": 5, "no image": 1}
    assert str(tally) == (
        "6 passed over: 5 hidden ('d/._0.cls', 'd/._0.png', 'd/._1.png', …), "
        "1 file that is no image by its suffix ('README.md')"
    )


def test_backslashes_part_folders_too(tmp_path: Path):
    path = write_tar(tmp_path / "s.tar", [("v1.0\\7.png", b"a"), ("v1.0\\7.cls", b"cat")])
    assert labels_of(path) == {"s/v1.0\\7": "cat"}


def test_labels_apart_from_their_images_are_counted(tmp_path: Path):
    members = [("0.png", b"a"), ("1.png", b"b"), ("0.cls", b"cat"), ("1.cls", b"dog")]
    tally = PassedOver()
    data = DataConfig(images=str(write_tar(tmp_path / "s.tar", members)))
    list(read_shard(list_shards(data)[0], data, tally))
    assert tally.examples == {}


@pytest.mark.parametrize("name", ["s.tar.zst", "s.tar"])
def test_tars_packed_with_zstandard(tmp_path: Path, name: str):
    plain = write_tar(tmp_path / "plain.tar", [("0.png", b"a" * 9000), ("0.cls", b"cat")])
    packed = pa.Codec("zstd").compress(Path(plain).read_bytes(), asbytes=True)
    (tmp_path / name).write_bytes(packed)
    assert labels_of(tmp_path / name) == {"s/0": "cat"}
    (tmp_path / name).write_bytes(packed[: len(packed) // 2])
    data = DataConfig(images=str(tmp_path / name))
    (reject,) = [i for i in read_shard(list_shards(data)[0], data) if isinstance(i, Reject)]
    assert "damaged archive" in reject.reason
