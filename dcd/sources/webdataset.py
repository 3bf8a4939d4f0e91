"""WebDataset tars, read in one forward pass. Nothing is ever extracted.

Members that share the path up to the first dot of the base name form one sample, as in the
WebDataset format; hidden ones are no members. The archive is not trusted: see `tar_members`.
"""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field

from dcd.config import DataConfig
from dcd.images.formats import REFUSED
from dcd.sources.passed_over import PassedOver
from dcd.sources.records import (
    MAX_ID_CHARS,
    MAX_IMAGE_BYTES,
    RawImage,
    Reject,
    Shard,
    short_id,
    unreadable_label,
)
from dcd.sources.sample_labels import (
    may_label,
    own_label,
    sample_label,
    split_key,
)
from dcd.sources.tar_members import Member, Reading, is_image_member, members
from dcd.tables.labels import label_text, spelling

_MAX_SAMPLE_MEMBERS = 256
_MAX_SAMPLE_BYTES = 2 * MAX_IMAGE_BYTES


@dataclass
class _Sample:
    """The members of one key, as far as they matter."""

    key: str
    suffixes: list[str] = field(default_factory=list)
    images: list[Member] = field(default_factory=list)
    n_bytes: int = 0  # of the images
    labels: dict[str, Member] = field(default_factory=dict)


def read_webdataset(
    shard: Shard,
    data: DataConfig,
    wanted: frozenset[str] | None = None,
    passed_over: PassedOver | None = None,
) -> Iterator[RawImage | Reject]:
    """Yield the images of a tar in its order; with `wanted`, only these ids are read into memory.

    Labels come from the sample's `.json` (`label_column`, else weak_label or label), else its
    `.cls` or `.txt`, or from the member that `label_column` names; those with the image's own stem
    go first. A damaged archive yields what precedes the damage and then one reject. `passed_over`
    gets what is no image.
    """
    prefix = f"{shard.name}/"
    keys = None
    if wanted is not None:
        keys = frozenset(split_key(image_id.removeprefix(prefix))[0] for image_id in wanted)
    reading = Reading(
        prefix, data.label_column, keys, PassedOver() if passed_over is None else passed_over, set()
    )
    sample: _Sample | None = None
    for member in members(shard, reading):
        if isinstance(member, Reject):
            yield member
            continue
        if sample is not None and sample.key != member.key:
            yield from _images(sample, reading)
            sample = None
        sample = sample or _Sample(member.key)
        yield from _add(sample, member, reading)
    if sample is not None:
        yield from _images(sample, reading)


def bytes_in_tar(image: RawImage) -> int:
    """Reckon a header and whole blocks for the image, and as a rule two blocks for its label.

    Some writers add a kilobyte a member, which is little beside a photograph.
    """
    blocks = 1 + -(-len(image.data) // tarfile.BLOCKSIZE)
    return tarfile.BLOCKSIZE * (blocks + (2 if image.weak_label is not None else 0))


def _add(sample: _Sample, member: Member, reading: Reading) -> Iterator[Reject]:
    """Take a member into its sample, unless it is one too many."""
    member_id = short_id(f"{reading.prefix}{sample.key}.{member.suffix}")
    if len(sample.suffixes) == _MAX_SAMPLE_MEMBERS:
        yield Reject(member_id, "read", f"its key has over {_MAX_SAMPLE_MEMBERS} members")
        return
    sample.suffixes.append(member.suffix)
    if may_label(member.suffix, reading.label_column):
        sample.labels.setdefault(member.suffix, member)
    elif is_image_member(member.suffix):
        taken = [image.suffix for image in sample.images if _is_plain(image)]
        if _is_plain(member) and taken:
            yield Reject(member_id, "read", f"a second image under one key; {taken[0]} was taken")
            return
        n_bytes = len(member.data or b"")
        if sample.n_bytes + n_bytes > _MAX_SAMPLE_BYTES:
            member, n_bytes = Member(member.key, member.suffix, None, "its sample is too large"), 0
        sample.n_bytes += n_bytes
        sample.images.append(member)


def _images(sample: _Sample, reading: Reading) -> Iterator[RawImage | Reject]:
    """The images of a finished sample.

    They are `key.jpg` and every `key.anything.jpg` that has a label of its own; without `key.jpg`
    every `key.anything.jpg`.
    """
    has_plain = any(_is_plain(image) for image in sample.images)
    if not sample.images:
        yield from _without_image(sample, reading)
        return
    for image in sample.images:
        stem = image.suffix.rpartition(".")[0]
        if stem and has_plain and not own_label(sample.labels, stem, reading.label_column):
            reading.passed_over.add("other view", f"{sample.key}.{image.suffix}")
        else:
            yield _image(sample, image, reading)


def _image(sample: _Sample, image: Member, reading: Reading) -> RawImage | Reject:
    stem, _, suffix = image.suffix.rpartition(".")
    image_id = f"{reading.prefix}{sample.key}" + (f".{stem}" if stem else "")
    if len(image_id) > MAX_ID_CHARS:
        return Reject(short_id(image_id), "read", f"its name has {len(image_id)} characters")
    if suffix in REFUSED:
        return Reject(short_id(image_id), "read", REFUSED[suffix])
    if image.data is None:
        return Reject(short_id(image_id), "read", image.problem or "not read")
    try:
        value = sample_label(
            sample.labels,
            lambda name: _content(sample.labels[name]),
            stem,
            reading.label_column,
        )
    except (ValueError, RecursionError) as err:
        return unreadable_label(image_id, err)
    label = label_text(value)
    if label is None:
        reading.unlabelled.add(sample.key)
    return RawImage(image_id, image.data, label, spelling(value, label))


def _without_image(sample: _Sample, reading: Reading) -> Iterator[Reject]:
    """What becomes of a key without an image: a label without its image is told as a reject."""
    if not sample.labels:
        for suffix in sample.suffixes:
            reading.passed_over.add("no image", f"{sample.key}.{suffix}".rstrip("."))
        return
    found = ", ".join(f".{suffix}" for suffix in sample.suffixes[:8])
    reason = f"no image among the members of its key: {found}"
    if sample.key in reading.unlabelled:
        reason = (
            f"stands apart from the image of its key: {found}; members of a key must follow each "
            "other, so sort the archive by name"
        )
    yield Reject(short_id(reading.prefix + sample.key), "read", reason)


def _content(member: Member) -> bytes:
    if member.data is None:
        raise ValueError(f".{member.suffix}: {member.problem}")
    return member.data


def _is_plain(image: Member) -> bool:
    """Whether an image is `key.jpg`, not `key.anything.jpg`."""
    return "." not in image.suffix
