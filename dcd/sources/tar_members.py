"""The members of a tar that nobody vouches for, in one forward pass. Nothing is ever extracted."""

import io
import lzma
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from dcd.images.formats import is_image_name
from dcd.sources.objects import OPENED, open_object, unpacked
from dcd.sources.passed_over import PassedOver, is_hidden
from dcd.sources.records import MAX_IMAGE_BYTES, Reject, Shard, short_id, too_many_bytes
from dcd.sources.sample_labels import MAX_LABEL_BYTES, may_label, split_key
from dcd.store.requests import Requests
from dcd.tables.labels import clean_id

_MAX_HEADER_BYTES = 2**20
READ_BYTES = 8 * 2**20  # one range request

# What tarfile raises on malformed archives, beside its own errors (found by fuzzing).
_MALFORMED = (
    tarfile.TarError,
    EOFError,
    TypeError,
    ValueError,
    OverflowError,
    RecursionError,
    zlib.error,
    lzma.LZMAError,
    OSError,  # of damaged gzip, bzip2 and Zstandard; the store raises StoreError
)


@dataclass(frozen=True)
class Member:
    """One file of the archive. `data` is None where `problem` says why it was not read."""

    key: str
    suffix: str
    data: bytes | None
    problem: str | None = None


@dataclass(frozen=True)
class Reading:
    """How a tar is read: whose images, by which label, and the tally of what is none."""

    prefix: str
    label_column: str | None
    keys: frozenset[str] | None  # None: all
    passed_over: PassedOver
    unlabelled: set[str]  # keys of images that had no label when their sample ended

    def wants(self, key: str) -> bool:
        return self.keys is None or key in self.keys


def reading_requests(n_bytes: int) -> Requests:
    """Count what reading a whole tar of this size sends to an object store."""
    return OPENED + Requests(n_get=-(-n_bytes // READ_BYTES))


def members(shard: Shard, reading: Reading) -> Iterator[Member | Reject]:
    """Yield regular files, each read at most once; what else the archive holds becomes a reject.

    Raises StoreError when the store fails: that is no fault of the archive.
    """
    last = shard.name
    try:
        stream = io.BufferedReader(open_object(shard.uri), READ_BYTES)
        archived: Any = unpacked(stream)
        # Plain archives go without tarfile's stream layer: a third faster, and skipping is a seek.
        mode = "r:" if archived is stream else "r|"
        with tarfile.open(fileobj=archived, mode=mode, tarinfo=_StrictTarInfo) as archive:
            while (info := archive.next()) is not None:
                archive.members = []  # pyright: ignore  # tarfile would keep every header
                if info.size < 0:
                    raise tarfile.ReadError("a member of negative size")
                if info.isdir():
                    continue
                name = clean_id(info.name).removeprefix("./")
                last = f"{shard.name}/{name}"
                if is_hidden(name):
                    reading.passed_over.add("hidden", name)
                    continue
                if problem := _unfit(info, name):
                    yield Reject(short_id(last), "read", problem)
                    continue
                key, suffix = split_key(name)
                if reading.wants(key):
                    yield _read(archive, info, Member(key, suffix, None), reading.label_column)
            if archive.fileobj.read(2**16).strip(b"\0"):  # pyright: ignore
                raise tarfile.ReadError("data after the end of the archive")
    except _MALFORMED as err:
        yield Reject(
            short_id(last), "read", f"damaged archive, the rest is lost after this member: {err}"
        )


def is_image_member(suffix: str) -> bool:
    return is_image_name(f"key.{suffix}")


def _unfit(info: tarfile.TarInfo, name: str) -> str | None:
    """Why a member is not even looked into."""
    if info.issym() or info.islnk():
        return "a link"
    if not info.isfile() or info.issparse():
        return "not a regular file"
    if name.startswith("/") or ".." in name.split("/"):
        return "its name leads out of the archive"
    return None


def _read(
    archive: tarfile.TarFile, info: tarfile.TarInfo, member: Member, label_column: str | None
) -> Member:
    """The member with its content, if that matters."""
    is_label = may_label(member.suffix, label_column)
    if not is_label and not is_image_member(member.suffix):
        return member
    limit = MAX_LABEL_BYTES if is_label else MAX_IMAGE_BYTES
    if info.size > limit:
        return replace(member, problem=too_many_bytes(info.size, limit))
    file = archive.extractfile(info)
    if file is None:
        raise tarfile.ReadError("a member without content")
    data = file.read()
    if len(data) != info.size:
        raise tarfile.ReadError("unexpected end of data")
    return replace(member, data=data)


class _StrictTarInfo(tarfile.TarInfo):
    """A header that reports damage where tarfile takes it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf, encoding, errors):
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:  # pyright: ignore
            raise
        except tarfile.HeaderError as err:
            raise tarfile.ReadError(f"{err} (truncated or overwritten)") from err

    def _proc_member(self, tarfile_):
        extended = self.type in (
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
            tarfile.XHDTYPE,
            tarfile.XGLTYPE,
            tarfile.SOLARIS_XHDTYPE,
        )
        if self.size < 0 or (extended and self.size > _MAX_HEADER_BYTES):
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(tarfile_)  # pyright: ignore
