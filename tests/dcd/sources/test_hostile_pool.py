"""The whole hostile corpus as one pool: read, decoded, embedded, published and counted again."""

import hashlib
import io
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dcd.config import EncoderConfig, PoolConfig
from dcd.embeddings.embed import ShardStats, embed_shard
from dcd.embeddings.status import verify
from dcd.encoders.encoder import load_encoder
from dcd.sources.source import Source, list_source, source_of
from dcd.store import Store, keys
from tests.dcd.sources.hostile import IMAGES, encoded, noise, oriented, scene

CONFIG = EncoderConfig(model="pixels", input_size=16, precision="fp32")
# Every kind of file, cut at many places: nothing that lacks bytes may pass for an image.
WHOLE = {
    "jpg": encoded(noise(), "JPEG", quality=90),
    "png": encoded(noise(), "PNG"),
    "gif": encoded(noise().convert("P"), "GIF"),
    "webp": encoded(noise(), "WEBP", quality=90),
    "tif": encoded(noise(), "TIFF", compression="tiff_lzw"),
    "jp2": encoded(noise(), "JPEG2000"),
    "avif": encoded(noise(), "AVIF"),
    "ppm": encoded(noise(), "PPM"),
}
N_CUTS = 12


def member(name: str, data: bytes = b"", **fields: object) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, data


def corpus() -> tuple[list[tuple[tarfile.TarInfo, bytes]], dict[str, str | None]]:
    """Members of one tar; by id, what must become of each: None, or a fragment of the reason."""
    members, wanted = [], {}
    for case in IMAGES:
        members.append(member(f"{case.name}.jpg", case.data))
        wanted[f"s/{case.name}"] = case.reason
    for kind, data in WHOLE.items():
        for nth in range(N_CUTS):
            members.append(
                member(f"cut_{kind}_{nth:02d}.{kind}", data[: len(data) * nth // N_CUTS])
            )
            wanted[f"s/cut_{kind}_{nth:02d}"] = ""
        members.append(member(f"whole_{kind}.{kind}", data))
        wanted[f"s/whole_{kind}"] = None
    for orientation in range(1, 9):
        members.append(member(f"turned_{orientation}.jpg", oriented(orientation)))
        wanted[f"s/turned_{orientation}"] = None
    good = encoded(scene(), "JPEG")
    members += [
        member("../outside.jpg", good),
        member("/tmp/outside.jpg", good),
        member("a/../../outside.png", good),
        member("soft.jpg", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        member("hard.jpg", type=tarfile.LNKTYPE, linkname="whole_jpg.jpg"),
        member("pipe.jpg", type=tarfile.FIFOTYPE),
        member("label.jpg", good),
        member("label.json", b"[" * 100_000),
        member("whole_jpg.jpg", good),  # again
    ]
    wanted |= {
        "s/../outside.jpg": "leads out",
        "s//tmp/outside.jpg": "leads out",
        "s/a/../../outside.png": "leads out",
        "s/soft.jpg": "a link",
        "s/hard.jpg": "a link",
        "s/pipe.jpg": "not a regular file",
        "s/label": "unreadable label",
    }
    return members, wanted


@dataclass(frozen=True)
class Run:
    """The corpus, embedded into `folder`/store."""

    folder: Path
    store: Store
    source: Source
    encoder_id: str
    stats: ShardStats

    def embeddings(self) -> list[dict[str, Any]]:
        key = keys.embeddings("hostile", self.encoder_id, "s")
        return self.store.read_table(key).to_pylist()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "pool").mkdir()
    with tarfile.open(folder / "pool/s.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in corpus()[0]:
            archive.addfile(info, io.BytesIO(data))
    store = Store(str(folder / "store"))
    source = source_of(PoolConfig(name="hostile", images=str(folder / "pool")))
    encoder_id = load_encoder(CONFIG).encoder_id
    (shard,) = list_source(store, source)
    outcome = embed_shard(store, source, shard, CONFIG, encoder_id)
    return Run(folder, store, source, encoder_id, outcome.stats)


def test_every_input_is_embedded_or_rejected_as_it_should(run: Run):
    members, wanted = corpus()
    assert len(wanted) >= 40
    # The label is a member of its image; the name that comes twice is rejected beside the first.
    assert run.stats.n_images == len(wanted) + 1 == len(members) - 1
    assert run.stats.n_images == run.stats.n_embedded + run.stats.n_rejected
    rejects = run.store.read_table(keys.rejects("hostile", run.encoder_id, "s")).to_pylist()
    good = {image_id for image_id, reason in wanted.items() if reason is None}
    assert {row["image_id"] for row in run.embeddings()} == good
    reasons = {row["image_id"]: row["reason"] for row in rejects}
    assert "an earlier image of this shard has this id" in reasons.pop("s/whole_jpg")
    assert reasons.keys() == wanted.keys() - good
    for image_id, reason in reasons.items():
        assert (wanted[image_id] or "") in reason
        assert reason
    assert verify(run.store, "hostile", run.encoder_id, recount=run.source.data).faults == ()


def test_nothing_is_written_outside_the_store(run: Run):
    assert {path.name for path in run.folder.iterdir()} == {"pool", "store"}
    assert [path.name for path in (run.folder / "pool").iterdir()] == ["s.tar"]
    assert not Path("/tmp/outside.jpg").exists()
    tables = [path for path in (run.folder / "store").rglob("*") if path.is_file()]
    assert len(tables) == 3  # shards, embeddings, rejects
    assert all(pq.read_metadata(path).num_rows > 0 for path in tables)


def test_the_content_hash_is_that_of_the_encoded_bytes(run: Run):
    found = {row["image_id"]: row["content_hash"] for row in run.embeddings()}
    for kind, data in WHOLE.items():
        assert found[f"s/whole_{kind}"] == hashlib.blake2b(data, digest_size=16).digest()
