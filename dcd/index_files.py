"""The files of an index as they are told beforehand."""

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa


@dataclass(frozen=True)
class IndexFiles:
    """Bytes of the files that building or appending writes.

    vectors: of each file of vectors. layout: of the centres of lists and of the codec, where there
    are such. lists: how many, by label. runs: where the rows are, those of the base too, as
    `row_groups.DIRECTORY` says it.
    """

    vectors: tuple[int, ...]
    layout: tuple[int, ...]
    directory: int
    sample: int
    sources: int
    info: int
    runs: pa.Table
    lists: Mapping[str, int]
    dim: int

    @property
    def each(self) -> tuple[int, ...]:
        others = (self.directory, self.sample, self.sources, self.info)
        return (*self.vectors, *self.layout, *others)
