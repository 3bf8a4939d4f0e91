"""Look at the machine: processor, memory, temporary folder, and a store's rights and clock."""

import platform
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psutil

from dcd.errors import DCDError
from dcd.setup.findings import Finding
from dcd.store import keys
from dcd.store.store_format import open_store
from dcd.threads import cores

_LEAST_MEMORY, _LEAST_ROOM = 4 * 2**30, 5 * 2**30
_LARGEST_SKEW_S = 300  # S3 refuses requests of a clock that is off by a quarter of an hour
_CPU_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


def machine_findings() -> Iterator[Finding]:
    """Yield Python, the processor, memory and the temporary folder."""
    yield Finding("Python", "ok", f"{platform.python_version()} on {platform.platform(terse=True)}")
    flags = [flag for flag in _CPU_FLAGS if flag in _cpu_flags()]
    bf16 = any(flag.endswith("bf16") for flag in flags)
    told = f"{cores()} cores; {', '.join(flags) or 'no vector extensions known'}"
    if bf16:
        yield Finding("processor", "ok", told)
    else:
        yield Finding("processor", "note", f"{told}; no bf16, so networks run in fp32")
    memory = psutil.virtual_memory()
    yield _room("memory", memory.available, memory.total, _LEAST_MEMORY, "close other programs")
    folder = tempfile.gettempdir()
    disk = shutil.disk_usage(folder)
    mend = "free some, or set TMPDIR to a larger disk"
    yield _room(f"temporary files ({folder})", disk.free, disk.total, _LEAST_ROOM, mend)


def store_findings(url: str) -> Iterator[Finding]:
    """Yield whether a store can be written and read, and whether its clock is this machine's.

    Writes and deletes two small objects.
    """
    try:
        store = open_store(url)
        store.probe()
        yield Finding(f"store {url}", "ok", "can be written, listed, read and deleted")
        key = keys.probe(uuid4().hex)
        store.write_bytes(key, b"clock")
        written = store.published_at(keys.PROBES)[key]
        store.delete(key)
    except DCDError as err:
        yield Finding(f"store {url}", "fault", str(err))
        return
    skew_s = abs((written - datetime.now(UTC)).total_seconds())
    if skew_s > _LARGEST_SKEW_S:
        told = f"{skew_s:,.0f} s apart from the store's"
        yield Finding("clock", "fault", told, "set this machine's clock, by NTP for instance")
    else:
        yield Finding("clock", "ok", "is the store's")


def _room(what: str, free: int, total: int, least: int, mend: str) -> Finding:
    told = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    if free >= least:
        return Finding(what, "ok", told)
    return Finding(what, "note", f"{told}, {least / 2**30:.0f} are wanted", mend)


def _cpu_flags() -> set[str]:
    """The processor's features as Linux names them; none elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    lines = (line for line in text.splitlines() if line.startswith("flags"))
    return set(next(lines, "").split())
