import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcd.config import DataConfig
from dcd.errors import DataError, LabelError
from dcd.sources.listing import list_shards
from dcd.sources.records import RawImage, Reject
from dcd.sources.shards import read_shard
from dcd.sources.tables import open_table
from dcd.splits.label_table import read_labels

ROWS = "image_id,label\r\n01,cat\r\n1e3,NaN\r\n"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", ROWS.encode()),
        ("t.CSV", b"\xef\xbb\xbf" + ROWS.encode()),
        (
            "t.csv.gz",
            gzip.compress(ROWS[:20].encode(), mtime=0) + gzip.compress(ROWS[20:].encode(), mtime=0),
        ),
        ("packed.csv", gzip.compress(ROWS.encode(), mtime=0)),
        ("t.csv.zst", pa.Codec("zstd").compress(ROWS.encode(), asbytes=True)),
        ("t.tsv", ROWS.replace(",", "\t").encode()),
        ("t.csv", ROWS.replace(",", ";").encode()),
        ("t.csv", ROWS.encode("utf-16")),
        ("t.csv", b"\n\n image_id ,\tlabel\n01,cat\n\n1e3,NaN"),
        # Excel, PowerShell, R and pandas with all fields quoted
        ("t.csv", b'\xef\xbb\xbf"image_id","label"\r\n"01","cat"\r\n"1e3","NaN"\r\n'),
        ("t.csv", b"\xef\xbb\xbfsep=;\r\nimage_id;label\r\n01;cat\r\n1e3;NaN\r\n"),
        ("t.csv", b"#TYPE System.Object\r\n" + ROWS.encode()),
        ("t.csv", b'image_id;"label";"size, px"\n01;cat;1\n1e3;NaN;2\n'),
    ],
)
def test_text_tables_are_text_however_they_are_written(tmp_path: Path, name: str, data: bytes):
    (tmp_path / name).write_bytes(data)
    found = open_table(str(tmp_path / name), "p").read(["image_id", "label"])
    assert found.to_pydict() == {"image_id": ["01", "1e3"], "label": ["cat", "NaN"]}


def test_a_folder_with_a_suffix_decides_nothing_and_a_guess_is_told(tmp_path: Path):
    (tmp_path / "x.tsv").mkdir()
    (tmp_path / "x.tsv" / "t.csv").write_text("image_id;label\na;b\n")
    table = open_table(str(tmp_path / "x.tsv" / "t.csv"), "p")
    assert table.note is not None
    assert "semicolon" in table.note
    pq.write_table(pa.table({"label": [1]}), tmp_path / "t.csv")
    assert open_table(str(tmp_path / "t.csv"), "p").read(["label"]).to_pydict() == {"label": [1]}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("t.csv", b"image_id,label\na,caf\xe9\n", "save it as UTF-8"),
        ("t.csv", b"", "is empty"),
        ("t.csv", b"image_id,label\na,b,c\n", "Expected 2 columns, got 3: a,b,c"),
        ("t.csv.gz", gzip.compress(ROWS.encode(), mtime=0)[:-12], "ended before"),
        ("t.txt", ROWS.encode(), "is no Parquet file by its first bytes"),
        ("t.csv", ROWS.encode("utf-16-le"), "NUL characters, as UTF-16 does; save it as UTF-8"),
        ("t.csv", b"x" * 200_000, "cannot be read as a text table"),
    ],
)
def test_a_damaged_table_is_named_with_its_place(
    tmp_path: Path, name: str, data: bytes, message: str
):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        open_table(str(tmp_path / name), "train.labels").read(["image_id", "label"])
    assert f"train.labels: {tmp_path / name}" in str(caught.value)


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": lambda data: pa.Codec("zstd").compress(data, asbytes=True),
}


@pytest.mark.parametrize("suffix", PACKED)
def test_a_few_packed_bytes_do_not_fill_the_memory(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("dcd.sources.tables._ALWAYS_UNPACKED_BYTES", 2**18)
    same = b"image_id,label\n" + b"a,b\n" * 2**19
    ids = "".join(f"{n * 2654435761 % 2**32:08x},cat\n" for n in range(40_000))
    usual = f"image_id,label\n{ids}".encode()
    for name, data in (("same", same), ("usual", usual)):
        (tmp_path / f"{name}.csv.{suffix}").write_bytes(PACKED[suffix](data))
    with pytest.raises(DataError, match=r"train\.labels: .*grew to more than"):
        open_table(str(tmp_path / f"same.csv.{suffix}"), "train.labels").read(["label"])
    found = open_table(str(tmp_path / f"usual.csv.{suffix}"), "train.labels").read(["label"])
    assert found.num_rows == 40_000


def test_names_equal_but_for_case_are_refused_where_one_is_asked_for(tmp_path: Path):
    (tmp_path / "t.csv").write_text("image_id,Label,label,x,X\na,b,c,d,e\n")
    table = open_table(str(tmp_path / "t.csv"), "p")
    assert table.read(["image_id"]).to_pydict() == {"image_id": ["a"]}
    with pytest.raises(LabelError, match=r"\['Label', 'label'\]"):
        table.read(["image_id", "label"])


def test_columns_without_a_name_are_not_asked_for(tmp_path: Path):
    (tmp_path / "t.csv").write_text("image_id,label,,\na,cat,,\nb,dog,,\n")
    config = {"images": "i", "labels": str(tmp_path / "t.csv")}
    for where in (None, "label = 'cat'"):
        found = read_labels(DataConfig(**config, where=where), "train")  # pyright: ignore
        assert found is not None
        assert found["label"].to_pylist() == (["cat", "dog"] if where is None else ["cat"])


def labelled(path: Path, labels: list, names: list[str] | None = None) -> None:
    table = pa.table({"image": [b"x"] * len(labels), "label": labels})
    if names is not None:
        noted = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        table = table.replace_schema_metadata({"huggingface": json.dumps(noted)})
    pq.write_table(table, path)


def read_all(images: str) -> list:
    data = DataConfig(images=images)
    return [image for shard in list_shards(data) for image in read_shard(shard, data)]


def test_each_file_has_its_own_code_book(tmp_path: Path):
    labelled(tmp_path / "a.parquet", [0, 1, -1, 7], ["cat", "dog"])
    labelled(tmp_path / "b.parquet", [0, 1], ["dog", " cat"])
    found = read_all(str(tmp_path / "*.parquet"))
    labels = [image.weak_label for image in found if isinstance(image, RawImage)]
    assert labels == ["cat", "dog", None, "dog", "cat"]
    (refused,) = (image for image in found if isinstance(image, Reject))
    assert "code 7 has no name" in refused.reason


@pytest.mark.parametrize("other", [["cat", "dog"], None])
def test_names_beside_bare_codes_are_refused_with_both_files(tmp_path: Path, other):
    labelled(tmp_path / "a.parquet", [0, 1])
    if other is None:
        labelled(tmp_path / "b.parquet", [0, 1], ["cat", "dog"])
    else:
        labelled(tmp_path / "b.parquet", other)
    with pytest.raises(LabelError, match=r"a\.parquet: its labels are bare numbers.*b\.parquet"):
        list_shards(DataConfig(images=str(tmp_path / "*.parquet")))


def test_a_row_may_name_a_file_beside_its_table(tmp_path: Path):
    (tmp_path / "data" / "in").mkdir(parents=True)
    (tmp_path / "data" / "in" / "a.png").write_bytes(b"a picture")
    (tmp_path / "secret.png").write_bytes(b"elsewhere")
    names = ["in/a.png", str(tmp_path / "data/in/a.png"), "gone.png", "../secret.png"]
    names += [str(tmp_path / "secret.png"), "https://example.org/a.png"]
    image = pa.array([{"bytes": None, "path": name} for name in names])
    pq.write_table(pa.table({"image": image, "label": ["x"] * 6}), tmp_path / "data" / "t.parquet")
    found = read_all(str(tmp_path / "data" / "t.parquet"))
    assert [image.data for image in found[:2]] == [b"a picture"] * 2
    assert "'gone.png', and no such file lies beside the table" in found[2].reason
    assert all("does not lie beside the table" in image.reason for image in found[3:])


@pytest.mark.parametrize("value", [' "cat"', '\t"cat, ""tabby"""  '])
def test_a_quote_behind_a_space_is_refused_at_every_door(tmp_path: Path, value: str):
    path = tmp_path / "t.csv"
    path.write_text(f"uri|label\na.png|dog\nb.png|{value}\n")
    message = r"1 values of column 'label', such as .*cat.*remove the space"
    with pytest.raises(DataError, match=message):
        open_table(str(path), "p").read(["label"])
    with pytest.raises(DataError, match=message):
        list_shards(DataConfig(images=str(path)))
    path.write_text('uri|label\na.png|7" disc\nb.png| cat "x"\nc.png|"a ""b"""\n')
    found = open_table(str(path), "p").read(["label"])
    assert found["label"].to_pylist() == ['7" disc', ' cat "x"', 'a "b"']


def test_a_workbook_is_named(tmp_path: Path):
    (tmp_path / "t.csv").write_bytes(b"PK\3\4" + bytes(20))
    with pytest.raises(DataError, match="is a ZIP file, as Excel's workbooks are"):
        open_table(str(tmp_path / "t.csv"), "p")


def test_a_folder_is_no_table(tmp_path: Path):
    (tmp_path / "t.parquet").mkdir()
    with pytest.raises(DataError, match="expected an object or a regular file, found a folder"):
        open_table(str(tmp_path / "t.parquet"), "train.labels")


@pytest.mark.parametrize(
    ("header", "mend"),
    [
        ("file_name,label", "rename the column that names the images to 'image_id'"),
        ("Image_ID,label", "rename 'Image_ID' to 'image_id'"),
        ("image_id,class", "name the label column with label_column"),
    ],
)
def test_a_missing_column_is_told_with_what_to_do(tmp_path: Path, header: str, mend: str):
    (tmp_path / "t.csv").write_text(f"{header}\na.png,cat\n")
    with pytest.raises(LabelError, match=mend):
        read_labels(DataConfig(images="x", labels=str(tmp_path / "t.csv")), "train")


def test_addresses_of_the_web_are_told(tmp_path: Path):
    pq.write_table(pa.table({"URL": ["http://x/1.jpg"], "TEXT": ["a cat"]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="'URL' may hold addresses: fetch the pictures first"):
        read_all(str(tmp_path / "t.parquet"))


@pytest.mark.parametrize("name", ["a.tar", "a.tgz", "a.parquet", "a.csv"])
def test_a_pointer_of_git_lfs_is_told_at_every_door(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(DataError, match=f"{name}: it is a pointer of Git LFS"):
        read_all(str(tmp_path / name))
    with pytest.raises(DataError, match=f"{name}: it is a pointer of Git LFS"):
        open_table(str(tmp_path / name), "train.labels")


TORN = {
    "unclosed": 'image_id,label,note\n1,cat,"ok\n2,dog,x\n3,fox,y\n',
    "closed by the next": 'image_id,label,note\n1,cat,"ok\n2,dog,x\n3,fox,"y"\n4,ox,z\n',
    "in the last column": 'image_id,note,label\n1,ok,"cat\n2,x,dog\n3,y,fox',
    "in UTF-16": 'image_id,label,note\n1,cat,"ok\n2,dog,x\n3,fox,y\n',
}


@pytest.mark.parametrize("name", TORN)
def test_a_quote_that_is_not_closed_takes_no_rows_along(tmp_path: Path, name: str):
    """Arrow reads all that follows such a quote as one value: rows would be lost without a word."""
    encoding = "utf-16" if "UTF-16" in name else "utf-8"
    (tmp_path / "t.csv").write_bytes(TORN[name].encode(encoding))
    table = open_table(str(tmp_path / "t.csv"), "p")
    with pytest.raises(DataError, match="the quotes from line 2 on do not match"):
        table.read(["image_id"])
    with pytest.raises(DataError, match="the quotes from line 2 on do not match"):
        list(table.batches())


def test_line_ends_and_quotes_within_values_are_read(tmp_path: Path):
    text = 'image_id,label\n\n1,"a\nb"\n2,"say ""a"""\n3,5" nail\n\n4,"x,\r\ny"\n'
    (tmp_path / "t.csv").write_bytes(text.encode())
    found = open_table(str(tmp_path / "t.csv"), "p").read(["label"])["label"].to_pylist()
    assert found == ["a\nb", 'say "a"', '5" nail', "x,\r\ny"]


def test_a_row_of_another_length_is_told_with_what_to_do(tmp_path: Path):
    (tmp_path / "t.csv").write_text("image_id,label\n1,cat, small\n")
    with pytest.raises(DataError, match="as many values as the header, those with a separator"):
        open_table(str(tmp_path / "t.csv"), "p").read(["label"])
