"""What a file holds → a label or an id, or the reason why it is none. Every door uses this module.

A label is text, in Unicode's composed form (NFC), without byte order marks, and without white
space or characters of no width at its ends; a blank one is missing. So two spellings that look the
same are one label, whichever files they come from, and `cleaned` counts what was merged.
"""

import datetime
import json
import math
import unicodedata
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

MAX_LABEL_CHARS = 10_000  # captions are labels too
_BYTE_ORDER_MARK = "\ufeff"
_WHITE = (
    "".join(map(chr, [*range(9, 14), *range(0x1C, 0x21), 0x85, 0xA0, 0x1680]))
    + "".join(map(chr, range(0x2000, 0x200B)))
    + "\u2028\u2029\u202f\u205f\u3000"
)
_NO_WIDTH = "\0\u00ad\u180e\u200b\u200c\u200d\u200e\u200f\u2060"
_EDGES = _WHITE + _NO_WIDTH
_NUMBERS = (int, float, Decimal, np.floating)
_WRITTEN_OUT = (datetime.date, datetime.time, uuid.UUID)

# The name of each code of a column, in the order of the codes.
Names = Sequence[str]


@dataclass(frozen=True)
class LabelColumn:
    """A column of N values as labels; what is the same in many rows is kept once.

    codes: (N,) int64, the place of each row in the lists below, -1 for null. found: the distinct
    values as text. labels: what they became, None for a missing or refused one. reasons: why
    they were refused.
    """

    codes: np.ndarray
    found: list[str]
    labels: list[str | None]
    reasons: list[str | None]

    def column(self) -> pa.Array:
        """Return the labels of all rows: string, null where there is none."""
        values = pa.array(self.labels, pa.string())
        return values.take(pa.array(self.codes, mask=self.codes < 0))

    def row(self, number: int) -> tuple[str | None, str | None]:
        """Return the label of a row, and why it was refused."""
        code = self.codes[number]
        return (None, None) if code < 0 else (self.labels[code], self.reasons[code])

    def spelling(self, number: int) -> str | None:
        """Tell how a row writes its label, where cleaning changed that."""
        code = self.codes[number]
        label = None if code < 0 else self.labels[code]
        return None if label is None or self.found[code] == label else self.found[code]

    def faults(self) -> Counter[str]:
        """Count the rows that were refused, by reason."""
        return Counter(
            {why: n for why, n in self._counted(self.reasons).items() if why is not None}
        )

    def spellings(self) -> dict[str, Counter[str]]:
        """Count the spellings of every label that is not written as itself everywhere."""
        counts = np.bincount(self.codes[self.codes >= 0], minlength=len(self.found))
        ways: dict[str, Counter[str]] = {}
        for found, label, n in zip(self.found, self.labels, counts.tolist(), strict=True):
            if label is not None:
                ways.setdefault(label, Counter())[found] += n
        return {label: way for label, way in ways.items() if set(way) != {label}}

    def _counted(self, names: Sequence[str | None]) -> Counter[str | None]:
        counted: Counter[str | None] = Counter()
        counts = np.bincount(self.codes[self.codes >= 0], minlength=len(names))
        for name, n in zip(names, counts.tolist(), strict=True):
            counted[name] += n
        return counted


def clean_text(text: str) -> str:
    """Clean labels and ids, here alone: `text` in NFC, without byte order marks, trimmed."""
    if text.isascii():
        return text.strip(_EDGES)
    return unicodedata.normalize("NFC", text.replace(_BYTE_ORDER_MARK, "")).strip(_EDGES)


def clean_id(text: str) -> str:
    """Clean a file's name or an id as `clean_text`; undecodable bytes become backslash escapes."""
    return clean_text(shown_name(text))


def shown_name(text: str) -> str:
    """Return a file's name as it is written, for counts of spellings: valid Unicode."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def names_meant(written: str) -> list[str]:
    """Return the names that a file may have whose name a table writes so, the likeliest first.

    As it is written, then cleaned, then with accents as signs of their own, as macOS stores them.
    """
    clean = clean_text(written)
    return list(dict.fromkeys((written, clean, unicodedata.normalize("NFD", clean))))


def label_text(value: object, names: Names | None = None) -> str | None:
    """Turn a value into a label; None for a missing one (null, NaN, blank, ClassLabel's -1).

    names: of whole numbers that are codes, 1.0 too. Raises ValueError, with the reason, for what
    is no label: lists, objects, numbers without end, undecodable bytes, codes without a name.
    """
    code = None if names is None else _code(value)
    if names is not None and code is not None:
        return _named(code, names)
    return _label(_text(value))


def spelling(value: object, label: str | None) -> str | None:
    """Return the value as its file writes it, where that is not the label that it became."""
    found = _shown(value, None)
    return None if label is None or found == label else found


def _shown(value: object, names: Names | None) -> str:
    code = None if names is None else _code(value)
    if names is not None and code is not None and 0 <= code < len(names):
        return names[code]
    try:
        return _text(value) or ""
    except ValueError:
        return str(value)[:100]


def id_text(value: object) -> str | None:
    """Turn a value into an id; None for a missing one. Raises ValueError for lists and objects."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    text = _text(value)
    return None if text is None else clean_id(text) or None


def cleaned(column: pa.Array | pa.ChunkedArray, names: Names | None = None) -> LabelColumn:
    """Turn a column of any type into labels, each distinct value by `label_text`."""
    values, codes = _distinct(column)
    labels: list[str | None] = []
    reasons: list[str | None] = []
    for value in values:
        label, reason = None, None
        try:
            label = label_text(value, names)
        except ValueError as err:
            reason = str(err)[:200]
        labels.append(label)
        reasons.append(reason)
    found = [_shown(value, names) for value in values]
    return LabelColumn(codes, found, labels, reasons)


def id_column(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Turn a column of any type into ids: string, null where there is none. The same as `id_text`.

    Raises ValueError if its type holds no ids.
    """
    kind = column.type
    plain = column
    if pa.types.is_string_view(kind) or pa.types.is_large_string(kind):
        plain = column.cast(pa.string())
    if pa.types.is_integer(kind):
        plain = column.cast(pa.string())
    if pa.types.is_string(plain.type):
        try:
            return _joined(_trimmed(plain))
        except pa.ArrowInvalid:  # not UTF-8
            plain = plain.cast(pa.binary())
    values, codes = _distinct(plain)
    texts = pa.array([id_text(value) for value in values], pa.string())
    return texts.take(pa.array(codes, mask=codes < 0))


def stand_as_cleaned(ids: pa.ChunkedArray, labels: pa.ChunkedArray) -> bool:
    """Say whether ids and labels that an earlier version stored are those of this one.

    They are cleaned, and no label can be a code that has a name by now.
    """
    if not pa.chunked_array([id_column(ids.combine_chunks())]).equals(ids):
        return False
    distinct = pc.unique(labels).drop_null()
    is_code = pc.match_substring_regex(distinct, r"^-?[0-9]+$")
    return cleaned(distinct).column().equals(distinct) and not pc.any(is_code, min_count=0).as_py()


def may_be_codes(kind: pa.DataType) -> bool:
    """Tell whether a column may hold codes: whole numbers, or what pandas makes of gaps in them."""
    if isinstance(kind, pa.DictionaryType):
        kind = kind.value_type
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)


def code_book(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """Return the names of the codes that a column of numbers holds; None where none are known."""
    return class_names(schema, column) if may_be_codes(schema.field(column).type) else None


def class_names(schema: pa.Schema, column: str) -> tuple[str, ...] | None:
    """Read the names that `datasets` of Hugging Face keeps beside the codes of a ClassLabel.

    They stand in the schema's metadata, `huggingface` → info.features.COLUMN.names.
    """
    try:
        noted = json.loads((schema.metadata or {})[b"huggingface"])
        feature = noted["info"]["features"][column]
        names = feature["names"]
    except (KeyError, TypeError, ValueError):
        return None
    if isinstance(names, dict):  # as in a data set's card: {"0": "cat"}
        names = [names[key] for key in sorted(names, key=int)]
    if feature.get("_type", "ClassLabel") != "ClassLabel" or not isinstance(names, list):
        return None
    return tuple(str(name) for name in names)


def join_spellings(
    ways: dict[str, Counter[str]], more: Mapping[str, Mapping[str, int]]
) -> dict[str, Counter[str]]:
    """Add the counts of other rows to `ways`, in place."""
    for label, counts in more.items():
        ways.setdefault(label, Counter()).update(counts)
    return ways


def spelling_notes(ways: Mapping[str, Mapping[str, int]], at_most: int = 5) -> list[str]:
    """Note every label that is written in other ways than its own, the most frequent first."""
    told = []
    ordered = sorted(ways.items(), key=lambda way: (-sum(way[1].values()), way[0]))
    for label, counts in ordered[:at_most]:
        spelled = ", ".join(f"{way!a} ({n:,})" for way, n in sorted(counts.items()))
        one = "are one label" if len(counts) > 1 else "is the label"
        told.append(f"{spelled} {one} {label!r}")
    if len(ordered) > at_most:
        told.append(f"{len(ordered) - at_most:,} more labels are cleaned in this way")
    return told


def _text(value: object) -> str | None:
    """A scalar of any type as text, not yet cleaned; None for null and NaN."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError as err:
            raise ValueError(f"its bytes are not UTF-8: {err}") from err
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    if isinstance(value, _NUMBERS):
        return _number(value)
    if isinstance(value, _WRITTEN_OUT):
        return str(value)
    raise ValueError(f"the label is a {type(value).__name__}, expected text or a number")


def _number(value: int | float | Decimal | np.floating) -> str | None:
    """Whole numbers without a point, others with the fewest digits that tell them apart."""
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            return None if value.is_nan() else _refuse_infinite(value)
        return str(int(value)) if value == value.to_integral_value() else format(value, "f")
    if math.isnan(value):
        return None
    if math.isinf(value):
        return _refuse_infinite(value)
    if float(value).is_integer():
        return str(int(value))
    return np.format_float_positional(value, trim="-")


def _refuse_infinite(value: object) -> None:
    raise ValueError(f"the label is the number {value}, expected a finite one")


@lru_cache(maxsize=65_536)
def _label(text: str | None) -> str | None:
    if text is None:
        return None
    label = clean_text(text)
    if len(label) > MAX_LABEL_CHARS:
        raise ValueError(
            f"the label has {len(label)} characters, at most {MAX_LABEL_CHARS} allowed"
        )
    if "\0" in label:
        raise ValueError("the label holds NUL characters, as text in UTF-16 does")
    label.encode("utf-8")  # lone surrogates raise UnicodeEncodeError, a ValueError
    return label or None


def _code(value: object) -> int | None:
    """A whole number as a code, of whatever type; None for what is none."""
    if isinstance(value, float | np.floating) and math.isfinite(value) and value == int(value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _named(code: int, names: Names) -> str | None:
    if code == -1:  # ClassLabel's own mark of an image without label
        return None
    if not 0 <= code < len(names):
        raise ValueError(f"code {code} has no name: the file names the codes 0 to {len(names) - 1}")
    return _label(names[code])


def _distinct(column: pa.Array | pa.ChunkedArray) -> tuple[list[object], np.ndarray]:
    """The distinct values of a column, and for each row the place of its own, -1 for null."""
    kind = column.type
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks else pa.array([], kind)
    if isinstance(kind, pa.DictionaryType):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_string_view(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = column.cast(pa.large_binary())  # Parquet's text is not always UTF-8
    try:
        encoded = column.dictionary_encode()
        values = _scalars(encoded.dictionary)
        codes = pc.fill_null(encoded.indices.cast(pa.int64()), -1).to_numpy()
        return values, codes
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid, AttributeError):
        return _distinct_of(_scalars(column))


def _distinct_of(rows: Sequence[object]) -> tuple[list[object], np.ndarray]:
    """The same for values that Arrow cannot compare; lists and objects are each one of its own."""
    values: list[object] = []
    at: dict[object, int] = {}
    codes = np.full(len(rows), -1, np.int64)
    for row, value in enumerate(rows):
        if value is None:
            continue
        key = repr(value)
        if key not in at:
            at[key] = len(values)
            values.append(value)
        codes[row] = at[key]
    return values, codes


def _scalars(column: pa.Array) -> list[object]:
    """As Python values; small floats keep their type, of which the number of digits depends."""
    if pa.types.is_floating(column.type):
        numbers = column.to_numpy(zero_copy_only=False)
        valid = column.is_valid().to_pylist()
        return [number if ok else None for number, ok in zip(numbers, valid, strict=True)]
    return column.to_pylist()


def _trimmed(text: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """`clean_text` of a string column, and null for a blank one."""
    if pc.all(pc.string_is_ascii(text), min_count=0).as_py():
        clean = pc.ascii_trim(text, "".join(c for c in _EDGES if c.isascii()))
    else:
        bare = pc.replace_substring(text, _BYTE_ORDER_MARK, "")
        clean = pc.utf8_trim(pc.utf8_normalize(bare, "NFC"), _EDGES)
    return pc.if_else(pc.equal(clean, ""), pa.scalar(None, pa.string()), clean)


def _joined(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.Array):
        return column
    return column.combine_chunks() if column.num_chunks else pa.array([], pa.string())
