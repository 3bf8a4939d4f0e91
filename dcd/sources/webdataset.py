"""WebDataset tars, read in one forward pass. Nothing is ever extracted.

Members that share the path up to the first dot of the base name form one sample, as in the
WebDataset format. The archive is not trusted: see `_members`.
"""

import io
import json
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from dcd.config import DataConfig
from dcd.sources.objects import OPENED, open_object
from dcd.sources.records import (
    LABEL_COLUMNS,
    MAX_ID_CHARS,
    MAX_IMAGE_BYTES,
    RawImage,
    Reject,
    Shard,
    short_id,
)
from dcd.store.requests import Requests
from dcd.tables.labels import clean_id, label_text, spelling

IMAGE_SUFFIXES = frozenset({"jpg", "jpeg", "png", "webp", "gif", "bmp"})
_LABEL_SUFFIXES = ("json", "cls", "txt")
_MAX_LABEL_BYTES = 2**20
_MAX_HEADER_BYTES = 2**20
_MAX_SAMPLE_MEMBERS = 256
_MAX_SAMPLE_BYTES = 2 * MAX_IMAGE_BYTES
READ_BYTES = 8 * 2**20  # one range request
_COMPRESSED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ")

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
)


@dataclass(frozen=True)
class _Member:
    """One file of the archive. `data` is None where `problem` says why it was not read."""

    key: str
    suffix: str
    data: bytes | None
    problem: str | None = None


@dataclass
class _Sample:
    """The members of one key, as far as they matter."""

    key: str
    suffixes: list[str] = field(default_factory=list)
    images: list[_Member] = field(default_factory=list)
    n_bytes: int = 0  # of the images
    labels: dict[str, _Member] = field(default_factory=dict)


def read_webdataset(
    shard: Shard, data: DataConfig, wanted: frozenset[str] | None = None
) -> Iterator[RawImage | Reject]:
    """The images of a tar in its order; with `wanted`, only these ids are read into memory.

    Labels come from the sample's `.json` (`label_column`, else weak_label or label), else its
    `.cls` or `.txt`. A damaged archive yields what precedes the damage and then one reject.
    """
    prefix = f"{shard.name}/"
    keys = wanted and {split_key(image_id.removeprefix(prefix))[0] for image_id in wanted}
    sample: _Sample | None = None
    for member in _members(shard, lambda key: keys is None or key in keys):
        if isinstance(member, Reject):
            yield member
            continue
        if sample is not None and sample.key != member.key:
            yield from _images(sample, prefix, data.label_column)
            sample = None
        sample = sample or _Sample(member.key)
        yield from _add(sample, member, prefix)
    if sample is not None:
        yield from _images(sample, prefix, data.label_column)


def reading_requests(n_bytes: int) -> Requests:
    """What reading a whole tar of this size sends to an object store."""
    return OPENED + Requests(n_get=-(-n_bytes // READ_BYTES))


def bytes_in_tar(image: RawImage) -> int:
    """A header and whole blocks for the image, and as a rule two blocks for its label.

    Some writers add a kilobyte a member, which is little beside a photograph.
    """
    blocks = 1 + -(-len(image.data) // tarfile.BLOCKSIZE)
    return tarfile.BLOCKSIZE * (blocks + (2 if image.weak_label is not None else 0))


def split_key(name: str) -> tuple[str, str]:
    """A member name as (key, suffix): cut at the first dot of the base name."""
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    return f"{folder}{slash}{stem}", suffix.lower()


def _add(sample: _Sample, member: _Member, prefix: str) -> Iterator[Reject]:
    """Take a member into its sample, unless it is one too many."""
    member_id = short_id(f"{prefix}{sample.key}.{member.suffix}")
    if len(sample.suffixes) == _MAX_SAMPLE_MEMBERS:
        yield Reject(member_id, "read", f"its key has over {_MAX_SAMPLE_MEMBERS} members")
        return
    sample.suffixes.append(member.suffix)
    if member.suffix in _LABEL_SUFFIXES:
        sample.labels.setdefault(member.suffix, member)
    elif _is_image(member.suffix):
        taken = [image.suffix for image in sample.images if image.suffix in IMAGE_SUFFIXES]
        if member.suffix in IMAGE_SUFFIXES and taken:
            yield Reject(member_id, "read", f"a second image under one key; {taken[0]} was taken")
            return
        n_bytes = len(member.data or b"")
        if sample.n_bytes + n_bytes > _MAX_SAMPLE_BYTES:
            member, n_bytes = _Member(member.key, member.suffix, None, "its sample is too large"), 0
        sample.n_bytes += n_bytes
        sample.images.append(member)


def _images(sample: _Sample, prefix: str, label_column: str | None) -> Iterator[RawImage | Reject]:
    """The images of a finished sample: `key.jpg`, or else every `key.anything.jpg`."""
    plain = [image for image in sample.images if image.suffix in IMAGE_SUFFIXES]
    images = plain or sample.images
    if not images:
        found = ", ".join(f".{suffix}" for suffix in sample.suffixes[:8])
        yield Reject(
            short_id(prefix + sample.key), "read", f"no image among the members of its key: {found}"
        )
        return
    try:
        value, label_problem = _label(sample.labels, label_column), None
    except (ValueError, RecursionError) as err:
        value, label_problem = None, f"unreadable label: {err}"[:200]
    label = label_text(value)
    for image in images:
        image_id = prefix + sample.key
        if not plain:
            image_id = f"{image_id}.{image.suffix.rpartition('.')[0]}"
        if image.data is None:
            yield Reject(short_id(image_id), "read", image.problem or "not read")
        elif len(image_id) > MAX_ID_CHARS:
            yield Reject(short_id(image_id), "read", f"its name has {len(image_id)} characters")
        elif label_problem:
            yield Reject(image_id, "label", label_problem)
        else:
            yield RawImage(image_id, image.data, label, spelling(value, label))


def _label(members: dict[str, _Member], label_column: str | None) -> object:
    """What a sample has for its label. Raises ValueError or RecursionError if it is none."""
    if "json" in members:
        record = json.loads(_content(members["json"]))
        if not isinstance(record, dict):
            raise ValueError(f".json: expected an object, found a {type(record).__name__}")
        for column in (label_column,) if label_column else LABEL_COLUMNS:
            if label_text(record.get(column)) is not None:
                return record[column]
    for suffix in ("cls", "txt"):
        if suffix in members and label_column in (None, suffix):
            content = _content(members[suffix])
            if label_text(content) is not None:
                return content
    return None


def _content(member: _Member) -> bytes:
    if member.data is None:
        raise ValueError(f".{member.suffix}: {member.problem}")
    return member.data


def _is_image(suffix: str) -> bool:
    return suffix.rpartition(".")[2] in IMAGE_SUFFIXES


def _members(shard: Shard, wants: Callable[[str], bool]) -> Iterator[_Member | Reject]:
    """Regular files, each read at most once; whatever else the archive holds becomes a reject.

    Raises StoreError when the store fails: that is no fault of the archive.
    """
    last = shard.name
    try:
        stream = io.BufferedReader(open_object(shard.uri), READ_BYTES)
        # Plain archives go without tarfile's stream layer: a third faster, and skipping is a seek.
        mode = "r|*" if stream.peek(8).startswith(_COMPRESSED) else "r:"
        with tarfile.open(fileobj=stream, mode=mode, tarinfo=_StrictTarInfo) as archive:
            while (info := archive.next()) is not None:
                archive.members = []  # pyright: ignore  # tarfile would keep every header
                if info.size < 0:
                    raise tarfile.ReadError("a member of negative size")
                if info.isdir():
                    continue
                name = clean_id(info.name).removeprefix("./")
                last = f"{shard.name}/{name}"
                if problem := _unfit(info, name):
                    yield Reject(short_id(last), "read", problem)
                    continue
                key, suffix = split_key(name)
                if wants(key):
                    yield _read(archive, info, key, suffix)
            if archive.fileobj.read(2**16).strip(b"\0"):  # pyright: ignore
                raise tarfile.ReadError("data after the end of the archive")
    except _MALFORMED as err:
        yield Reject(
            short_id(last), "read", f"damaged archive, the rest is lost after this member: {err}"
        )


def _unfit(info: tarfile.TarInfo, name: str) -> str | None:
    """Why a member is not even looked into."""
    if info.issym() or info.islnk():
        return "a link"
    if not info.isfile() or info.issparse():
        return "not a regular file"
    if name.startswith("/") or ".." in name.split("/"):
        return "its name leads out of the archive"
    return None


def _read(archive: tarfile.TarFile, info: tarfile.TarInfo, key: str, suffix: str) -> _Member:
    if not _is_image(suffix) and suffix not in _LABEL_SUFFIXES:
        return _Member(key, suffix, None)
    limit = MAX_IMAGE_BYTES if _is_image(suffix) else _MAX_LABEL_BYTES
    if info.size > limit:
        return _Member(key, suffix, None, f"{info.size} bytes, at most {limit} allowed")
    file = archive.extractfile(info)
    if file is None:
        raise tarfile.ReadError("a member without content")
    data = file.read()
    if len(data) != info.size:
        raise tarfile.ReadError("unexpected end of data")
    return _Member(key, suffix, data)


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
