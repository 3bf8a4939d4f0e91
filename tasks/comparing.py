"""The task that sets the arms of a comparison side by side."""

from collections.abc import Mapping, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from dcd import comparison
from dcd.comparison import ArmCell, ComparisonInfo
from dcd.comparison_config import ComparisonConfig
from dcd.config import Split
from dcd.datasets import Source
from dcd.stages import SplitInfo
from dcd.store import Store
from tasks.retries import RETRIES, RETRY_DELAYS_S, RETRY_JITTER_FACTOR, transient


@task(
    name="write-comparison",
    retries=RETRIES,
    retry_delay_seconds=RETRY_DELAYS_S,
    retry_jitter_factor=RETRY_JITTER_FACTOR,
    retry_condition_fn=transient,
    cache_policy=NO_CACHE,
)
def write_comparison(
    store: str,
    config: ComparisonConfig,
    cells: Sequence[ArmCell],
    pool: Source,
    splits: Mapping[Split, SplitInfo],
) -> ComparisonInfo:
    return comparison.write_comparison(Store(store), config, cells, pool, splits)
