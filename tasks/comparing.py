"""The task that sets the arms of a comparison side by side."""

from collections.abc import Mapping, Sequence

from prefect import task

from dcd import comparison
from dcd.comparison import ArmCell, ComparisonInfo
from dcd.comparison_config import ComparisonConfig
from dcd.config import Split
from dcd.datasets import Source
from dcd.stages import SplitInfo
from dcd.store import Store
from tasks.retries import RETRY


@task(name="write-comparison", **RETRY)
def write_comparison(
    store: str,
    config: ComparisonConfig,
    cells: Sequence[ArmCell],
    pool: Source,
    splits: Mapping[Split, SplitInfo],
    parts: Sequence[str],
) -> ComparisonInfo:
    return comparison.write_comparison(Store(store), config, cells, pool, splits, parts)
