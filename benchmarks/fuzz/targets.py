"""What is fuzzed: each target writes hostile bytes where a user's file would lie and reads them.

A reader may refuse by an error of ours that says why, or take what is there. Any other exception
is a fault. libFuzzer itself watches time and memory.
"""

import gzip
import io
import json
import shutil
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from PIL import Image

from dcd.config import DataConfig, PoolConfig, StartConfig, load_config
from dcd.errors import DCDError
from dcd.images.decode import BadImage, decode
from dcd.reviews.formats import csv_table, cvat, fiftyone, label_studio
from dcd.reviews.hand_off import Asked
from dcd.sources.records import RawImage
from dcd.sources.shards import list_images, list_shards, read_shard
from dcd.splits.label_map import read_label_map
from dcd.splits.label_table import read_label_table
from dcd.store import Store, keys
from dcd.training.checkpoints import Checkpoint
from dcd.training.user_model import load_start
from tests.mds import write_mds

_REFUSALS = (DCDError, BadImage)
_KEY = "0" * 32


@dataclass(frozen=True)
class Target:
    """A reader: what it takes for good, and how it is asked. read: (bytes, an empty folder)."""

    seeds: tuple[bytes, ...]
    read: Callable[[bytes, Path], object]

    def try_one(self, data: bytes, folder: Path) -> None:
        """Let the reader see the bytes. Raises whatever it should not have raised."""
        try:
            self.read(data, folder)
        except _REFUSALS:
            return


def targets(scratch: Path) -> Mapping[str, Target]:
    """Make all targets; scratch: an empty folder for the files that seeds are made of."""
    return {
        "config": Target((_config(),), _read_config),
        "labels.csv": Target(_label_texts(), _labels_named("labels.csv")),
        "labels.parquet": Target((_parquet(scratch, _labels()),), _labels_named("labels.parquet")),
        "labels.csv.gz": Target(
            (gzip.compress(_label_texts()[0], mtime=0),), _labels_named("labels.csv.gz")
        ),
        "label map": Target((b"weak_label,label\nc,cat\nd,dog\n",), _read_map),
        "pool.tar": Target((_tar(),), _pool_named("pool.tar")),
        "pool.parquet": Target((_parquet(scratch, _images()),), _pool_named("pool.parquet")),
        "pool.csv": Target((b"image_id,uri,weak_label\na,a.png,cat\n",), _pool_named("pool.csv")),
        "index of MDS": Target((_mds_index(scratch),), _read_mds_index),
        "shard of MDS": Target((_mds_shard(scratch),), _read_mds_shard),
        "picture": Target(tuple(_picture(form) for form in ("PNG", "JPEG", "GIF", "WEBP")), _see),
        "label-studio": Target(
            (_exported(label_studio, "tasks.json"), _studio_export()), _import(label_studio)
        ),
        "cvat": Target((_exported(cvat, "annotations.xml"),), _import(cvat)),
        "fiftyone": Target((_exported(fiftyone, "labels.json"),), _import(fiftyone)),
        "reviews.csv": Target((_exported(csv_table, "reviews.csv"),), _import(csv_table)),
        "a table of the store": Target((_stored_table(scratch),), _read_stored_table),
        "a document of the store": Target((_stored_document(scratch),), _read_stored_document),
        "a checkpoint": Target((_checkpoint(scratch),), _read_checkpoint),
        "weights.pth": Target((_weights(),), _weights_named("weights.pth")),
        "weights.safetensors": Target((_safetensors(),), _weights_named("weights.safetensors")),
    }


def _config() -> bytes:
    text = {
        "name": "fuzzed",
        "store": "store",
        "pool": {"images": "pool/*.parquet", "name": "pool"},
        "encoder": {"model": "resnet18", "precision": "fp32"},
        "train": {"images": "train.parquet", "labels": "labels.csv", "where": "role = 'train'"},
        "test": {"images": "test.parquet", "labels": "labels.csv"},
        "error_sample": {"images": "failures"},
        "debug_heldout": {"images": "heldout"},
        "selection": {"k": 20, "objective": "both"},
        "compare": {"baselines": ["random"]},
    }
    return yaml.safe_dump(text).encode()


def _read_config(data: bytes, folder: Path) -> None:
    path = folder / "config.yaml"
    path.write_bytes(data)
    load_config(path)


def _labels() -> pa.Table:
    return pa.table({"image_id": ["a", "b", "c"], "label": ["cat", "dog", "cat"]})


def _label_texts() -> tuple[bytes, ...]:
    return (
        b'image_id,label,mode\na,cat,night\nb,"dog, small",\nc,7,day\n',
        "image_id;label\na;café\n".encode(),
        "image_id,label\na,cat\n".encode("utf-16"),
    )


def _labels_named(name: str) -> Callable[[bytes, Path], None]:
    def read(data: bytes, folder: Path) -> None:
        (folder / name).write_bytes(data)
        read_label_table(DataConfig(images="nowhere", labels=str(folder / name)), "train")

    return read


def _read_map(data: bytes, folder: Path) -> None:
    (folder / "map.csv").write_bytes(data)
    read_label_map(PoolConfig(images="nowhere", label_map=str(folder / "map.csv")))


def _parquet(scratch: Path, table: pa.Table) -> bytes:
    path = scratch / "seed.parquet"
    pq.write_table(table, path)
    return path.read_bytes()


def _picture(form: str) -> bytes:
    sink = io.BytesIO()
    pixels = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    Image.fromarray(pixels).save(sink, form)
    return sink.getvalue()


def _images() -> pa.Table:
    images = [_picture("PNG"), b"no picture"]
    return pa.table({"image_id": ["a", "b"], "image": images, "weak_label": ["cat", None]})


def _tar() -> bytes:
    members = {"a.png": _picture("PNG"), "a.json": b'{"weak_label": "cat"}', "b.jpg": b"none"}
    members |= {"b.cls": b"3", "c.txt": b"a caption"}
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def _pool_named(name: str) -> Callable[[bytes, Path], None]:
    def read(data: bytes, folder: Path) -> None:
        (folder / name).write_bytes(data)
        pool = PoolConfig(images=str(folder / name), label_column="weak_label")
        _look_through(pool, folder)

    return read


def _look_through(pool: PoolConfig, folder: Path) -> None:
    for shard in list_shards(pool):
        for _ in list_images(shard, pool):
            pass
        for image in read_shard(shard, pool):
            if isinstance(image, RawImage):
                _see(image.data, folder)


_MDS_COLUMNS = {"image": "bytes", "weak_label": "str"}


def _mds(folder: Path) -> None:
    rows = [[_picture("PNG"), b"cat"], [b"no picture", b"dog"]]
    write_mds(folder, _MDS_COLUMNS, [rows])


def _mds_index(scratch: Path) -> bytes:
    _mds(scratch / "mds")
    return (scratch / "mds/index.json").read_bytes()


def _mds_shard(scratch: Path) -> bytes:
    _mds(scratch / "mds")
    (shard,) = (scratch / "mds").glob("shard.*")
    return shard.read_bytes()


def _read_mds_index(data: bytes, folder: Path) -> None:
    _mds(folder)
    (folder / "index.json").write_bytes(data)
    _look_through(PoolConfig(images=str(folder), label_column="weak_label"), folder)


def _read_mds_shard(data: bytes, folder: Path) -> None:
    _mds(folder)
    (shard,) = folder.glob("shard.*")
    shard.write_bytes(data)
    _look_through(PoolConfig(images=str(folder), label_column="weak_label"), folder)


def _see(data: bytes, folder: Path) -> None:
    try:
        decode(data)
    except BadImage:
        return


def _exported(tool: ModuleType, name: str) -> bytes:
    file = f"images/{_KEY}.jpg"
    asked = [Asked(_KEY, "p1", "cat", file, "http://x/1.jpg", 40, 30, 1.5, 0.4, "f1")]
    return tool.written(asked, ("cat", "dog"))[name]


def _studio_export() -> bytes:
    result = [{"type": "choices", "value": {"choices": ["dog"]}}]
    annotation = {"id": 7, "completed_by": {"email": "a@x"}, "updated_at": "2026", "result": result}
    return json.dumps([{"data": {"dcd_key": _KEY}, "annotations": [annotation]}]).encode()


def _import(tool: ModuleType) -> Callable[[bytes, Path], None]:
    def read(data: bytes, folder: Path) -> None:
        tool.answers(data, "an export")

    return read


def _stored(scratch: Path, key: str, write: Callable[[Store], object]) -> bytes:
    store = Store(str(scratch / "store"))
    write(store)
    return Path(store.path(key)).read_bytes()


def _put(folder: Path, key: str, data: bytes) -> Store:
    store = Store(str(folder / "store"))
    path = Path(store.path(key))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return store


def _stored_table(scratch: Path) -> bytes:
    key = keys.split("fuzzed")
    return _stored(scratch, key, lambda store: store.write_table(key, _labels(), metadata={}))


def _read_stored_table(data: bytes, folder: Path) -> None:
    key = keys.split("fuzzed")
    store = _put(folder, key, data)
    store.read_metadata(key)
    store.read_table(key)


def _stored_document(scratch: Path) -> bytes:
    key = keys.run_card("a")
    return _stored(scratch, key, lambda store: store.write_json(key, {"verdict": [1, None]}))


def _read_stored_document(data: bytes, folder: Path) -> None:
    _put(folder, keys.run_card("a"), data).read_json(keys.run_card("a"))


def _checkpoint(scratch: Path) -> bytes:
    import torch

    state = {"epoch": 1, "weights": {"w": torch.ones(2, 2)}}
    key = "cells/a/checkpoint"
    return _stored(scratch, key, lambda store: Checkpoint(store, key).save(state))


def _read_checkpoint(data: bytes, folder: Path) -> None:
    key = "cells/a/checkpoint"
    Checkpoint(_put(folder, key, data), key).load()


def _weights() -> bytes:
    import torch

    sink = io.BytesIO()
    torch.save({"fc.weight": torch.ones(2, 3), "fc.bias": torch.ones(2)}, sink)
    return sink.getvalue()


def _safetensors() -> bytes:
    from safetensors.numpy import save

    return save({"fc.weight": np.ones((2, 3), np.float32)})


def _weights_named(name: str) -> Callable[[bytes, Path], None]:
    def read(data: bytes, folder: Path) -> None:
        path = folder / name
        path.write_bytes(data)
        load_start(StartConfig(model=str(path), architecture="resnet10t", classes=("a", "b")))

    return read


def emptied(folder: Path) -> None:
    """Remove what the last try left in the folder."""
    shutil.rmtree(folder)
    folder.mkdir()
