"""The `select-images` flow: from the pool to the tables of picks, without training."""

from dataclasses import dataclass

from prefect import flow

from dcd.config import RunConfig
from dcd.selection.select import SelectionInfo
from flows.stages import embed_sources, gather_splits, index_pool, select_all


@dataclass(frozen=True)
class Selected:
    """One selection at one seed."""

    method: str
    seed: int
    info: SelectionInfo


@flow(name="select-images", flow_run_name="select {config.name}")
def select_images(config: RunConfig) -> list[Selected]:
    """Embed, cluster by label, select. Finished stages are reused, also by `debug-model`."""
    embedded = embed_sources(config)
    index = index_pool(config, embedded)
    return [
        Selected(method, seed, info)
        for seed in config.seeds
        for method, info in select_all(config, index, gather_splits(config, seed, embedded)).items()
    ]
