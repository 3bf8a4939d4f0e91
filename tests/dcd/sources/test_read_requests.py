"""What the readers say their reads cost, beside the reads that they then do."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcd.config import DataConfig
from dcd.estimate import parquet_cost
from dcd.estimate.parquet_cost import reading_cost
from dcd.sources import parquet, tar_members
from dcd.sources.files import file_requests
from dcd.sources.parquet import read_parquet
from dcd.sources.records import Shard
from dcd.sources.tar_members import reading_requests
from dcd.sources.webdataset import read_webdataset

DATA = DataConfig(images="x")


class Reads(io.FileIO):
    """A file whose every read would be a range request on an object store."""

    n = 0

    def readinto(self, buffer, /) -> int | None:
        n_bytes = super().readinto(buffer)
        Reads.n += bool(n_bytes)
        return n_bytes

    def read(self, size: int | None = -1, /) -> bytes | None:
        data = super().read(size)
        Reads.n += bool(data)
        return data


@pytest.fixture(autouse=True)
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (parquet, tar_members):
        monkeypatch.setattr(module, "open_object", Reads)
    # A 64th of the real sizes, and files of a 64th of the size of real ones.
    monkeypatch.setattr(parquet, "READ_BYTES", 2**16)
    monkeypatch.setattr(parquet_cost, "READ_BYTES", 2**16)
    monkeypatch.setattr(tar_members, "READ_BYTES", 2**17)


@pytest.mark.parametrize(
    ("image_bytes", "n_images", "group_rows"),
    [
        (500, 20, 20),
        (500, 1000, 1000),  # one page, longer than the buffer
        (500, 1000, 300),
        (20_000, 20, 10),
        (100_000, 5, 5),
        (1_500, 4000, 4000),  # a dictionary, then pages of 1,024 rows
    ],
)
def test_the_reads_of_a_parquet_file_are_told_by_its_footer(
    tmp_path: Path, image_bytes: int, n_images: int, group_rows: int
):
    rng = np.random.default_rng(0)
    columns = {
        "image_id": [f"i{n:05d}" for n in range(n_images)],
        "image": [rng.bytes(image_bytes) for _ in range(n_images)],
        "weak_label": ["a"] * n_images,
        "caption": [rng.bytes(image_bytes) for _ in range(n_images)],  # never read
    }
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=group_rows)
    told = reading_cost(str(path), DATA)
    assert n_images * image_bytes <= told.n_bytes < path.stat().st_size
    Reads.n = 0
    images = read_parquet(Shard("a", str(path), "parquet", n_images, "1"), DATA)
    assert sum(1 for _ in images) == n_images
    assert told.requests.n_get == Reads.n


@pytest.mark.parametrize(("image_bytes", "n_images"), [(500, 20), (500, 1000), (150_000, 4)])
def test_the_reads_of_a_tar_are_told_by_its_size(tmp_path: Path, image_bytes: int, n_images: int):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for n in range(n_images):
            for suffix, data in (("png", bytes(image_bytes)), ("cls", b"a")):
                member = tarfile.TarInfo(f"i{n:05d}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    Reads.n = 0
    images = read_webdataset(Shard("a", str(path), "webdataset", None, "1"), DATA)
    assert sum(1 for _ in images) == n_images
    assert reading_requests(path.stat().st_size).n_get == Reads.n


def test_label_files_beside_images_are_reads_too(tmp_path: Path):
    (tmp_path / "00000").mkdir()
    plain = Shard("a", f"{tmp_path}/cat#00000", "folder", 10, "1")
    assert file_requests(plain, DATA).n_get == 10
    assert file_requests(plain, DataConfig(images="x", label_column="txt")).n_get == 20
    numbered = Shard("a", f"{tmp_path}/00000#00000", "folder", 10, "1")
    assert (file_requests(numbered, DATA).n_get, file_requests(numbered, DATA).n_head) == (10, 2)
    (tmp_path / "00000_stats.json").write_text("{}")
    assert (file_requests(numbered, DATA).n_get, file_requests(numbered, DATA).n_head) == (20, 1)
