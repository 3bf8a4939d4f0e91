"""Make a table of when, with what and where the images of a data set were taken, for `where`."""

from dataclasses import astuple, dataclass

import pyarrow as pa

from dcd.config import DataConfig
from dcd.images.exif import capture_of
from dcd.sources.listing import list_shards
from dcd.sources.records import RawImage
from dcd.sources.shards import read_shard
from dcd.splits.label_table import read_label_table

CAPTURE = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("label", pa.string()),
        pa.field("captured", pa.timestamp("s")),
        pa.field("camera", pa.string()),
        pa.field("latitude", pa.float64()),
        pa.field("longitude", pa.float64()),
    ]
)
_ROWS_AT_ONCE = 10_000


@dataclass(frozen=True)
class CaptureTable:
    """rows: CAPTURE, in the order of the source; n_rejected images could not be read."""

    rows: pa.Table
    n_rejected: int

    def words(self) -> str:
        """Say how many images note what."""
        noted = {
            name: self.rows.num_rows - self.rows[column].null_count
            for name, column in (
                ("a time", "captured"),
                ("a camera", "camera"),
                ("a position", "latitude"),
            )
        }
        told = ", ".join(f"{n:,} {name}" for name, n in noted.items())
        lost = f"; {self.n_rejected:,} images could not be read" if self.n_rejected else ""
        return f"of {self.rows.num_rows:,} images {told}{lost}"


def capture_table(data: DataConfig, place: str) -> CaptureTable:
    """Read the EXIF of all images of a data set; image bytes pass by, none is decoded.

    Labels are those of its labels table, whose rows alone are taken where there is one, or those
    beside the images. Raises DataError, LabelError, ConfigError, StoreError as these readers do.
    """
    table = read_label_table(data, place, several_per_image=place == "pool")
    labels: dict[str, list[str]] | None = None
    if table is not None:
        labels = {}
        ids, given = (table.rows[name].to_pylist() for name in ("image_id", "label"))
        for image_id, label in zip(ids, given, strict=True):
            labels.setdefault(image_id, []).append(label)
    parts = [CAPTURE.empty_table()]
    rows: list[tuple[object, ...]] = []
    n_rejected = 0
    for shard in list_shards(data):
        for image in read_shard(shard, data):
            if not isinstance(image, RawImage):
                n_rejected += 1
                continue
            of_image = [image.weak_label] if labels is None else labels.get(image.image_id, ())
            if not of_image:
                continue
            noted = astuple(capture_of(image.data))
            rows += [(image.image_id, label, *noted) for label in of_image]
            if len(rows) >= _ROWS_AT_ONCE:
                parts.append(_as_table(rows))
                rows = []
    return CaptureTable(pa.concat_tables([*parts, _as_table(rows)]), n_rejected)


def _as_table(rows: list[tuple[object, ...]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [()] * len(CAPTURE)
    arrays = [pa.array(c, field.type) for c, field in zip(columns, CAPTURE, strict=True)]
    return pa.table(arrays, schema=CAPTURE)
