"""The label of a sample whose members share a name: JSON, `.cls` and `.txt` beside an image.

One rule for tars and for folders: members with the image's own stem come first (`shot_1.5x.cls` of
`shot_1.5x.png`), then those of the key, which is the base name up to its first dot, as the
webdataset library has it.
"""

import json
from collections.abc import Callable, Collection

from dcd.sources.records import label_names
from dcd.tables.labels import label_text

LABEL_SUFFIXES = ("json", "cls", "txt")
MAX_LABEL_BYTES = 2**20


def split_key(name: str) -> tuple[str, str]:
    """Split a member name at the first dot of its base name: (key, suffix in lower case)."""
    start = max(name.rfind("/"), name.rfind("\\")) + 1
    stem, _, suffix = name[start:].partition(".")
    return f"{name[:start]}{stem}", suffix.lower()


def may_label(suffix: str, label_column: str | None) -> bool:
    """Tell whether a member with this suffix may hold a label; `label_column` may name a suffix."""
    if suffix.rpartition(".")[2] in LABEL_SUFFIXES:
        return True
    named = (label_column or "").lower()
    return bool(named) and (suffix == named or suffix.endswith(f".{named}"))


def own_label(members: Collection[str], stem: str, label_column: str | None) -> bool:
    """Tell whether a member with the stem of an image (`5x` of key.5x.png) may label it."""
    return any(f"{stem}.{suffix}" in members for suffix in _suffixes(label_column))


def sample_label(
    members: Collection[str],
    content: Callable[[str], bytes],
    stem: str,
    label_column: str | None,
) -> object:
    """Return what an image has for its label among the members of its key; None where there is
    none.

    members: their suffixes. stem: of the image's suffix, "" of key.png. `content` reads a member.
    Raises ValueError or RecursionError if a label is there and cannot be read.
    """
    for scope in (f"{stem}.", "") if stem else ("",):
        for suffix in _suffixes(label_column):
            if f"{scope}{suffix}" not in members:
                continue
            data = content(f"{scope}{suffix}")
            value = (
                _of_json(data, label_column)
                if suffix == "json"
                else _of_text(data, suffix, label_column)
            )
            if label_text(value) is not None:
                return value
    return None


def _suffixes(label_column: str | None) -> tuple[str, ...]:
    named = (label_column or "").lower()
    return LABEL_SUFFIXES if not named or named in LABEL_SUFFIXES else (*LABEL_SUFFIXES, named)


def _of_text(data: bytes, suffix: str, label_column: str | None) -> bytes | None:
    return data if label_column is None or suffix == label_column.lower() else None


def _of_json(data: bytes, label_column: str | None) -> object:
    """A field of an object, or a document that is the label itself."""
    record = json.loads(data, object_pairs_hook=_object)
    if isinstance(record, dict):
        values = (record.get(column) for column in label_names(label_column))
        return next((value for value in values if label_text(value) is not None), None)
    if isinstance(record, list):
        raise ValueError(".json: expected an object or a label, found a list")
    return record if label_column in (None, "json") else None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Raises ValueError where a name stands twice with two values: neither is the right one."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = [name for name, value in pairs if found[name] != value]
        if twice:
            raise ValueError(f".json: {twice[0]!r} stands twice in an object, with two values")
    return found
