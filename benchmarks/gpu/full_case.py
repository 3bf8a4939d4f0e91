"""Write what `benchmarks.gpu.full` trains on: images, labels, picks, noise and starting heads."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from safetensors.torch import save_file

from dcd.cells.cell import CellPlan, gather_data
from dcd.cells.methods import methods
from dcd.cells.networks import probing_head, starting_head
from dcd.cells.train import TrainingData, by_source, doubt_of
from dcd.config import SPLITS, RunConfig, Split, load_config
from dcd.embeddings.embed import embed_shard
from dcd.encoders.encoder import load_encoder, load_network, preprocess_of
from dcd.index.build import cluster_pool
from dcd.index.info import IndexInfo
from dcd.selection.select import select
from dcd.sources.records import Shard
from dcd.sources.source import fetch_each, list_source, source_of, sources
from dcd.splits.split import SplitInfo, gather_split
from dcd.store import Store

# All of the pool, which the first stage learns; the selection's other settings are the defaults.
_SELECTION = {"k": 50, "general_images": 50_000}


def write_case(config_path: Path, folder: Path, seeds: Sequence[int]) -> None:
    """Write the images of the case once, and a file for each seed."""
    document = load_config(config_path).model_dump()
    document["selection"] |= _SELECTION
    config = RunConfig.model_validate(document)
    store = Store(config.store)
    encoder_id = load_encoder(config.encoder).encoder_id
    shards: dict[str, list[Shard]] = {}
    for source in sources(config):
        shards[source.id] = list_source(store, source)
        for shard in shards[source.id]:
            embed_shard(store, source, shard, config.encoder, encoder_id)
    pool = source_of(config.pool)
    index = cluster_pool(store, pool, encoder_id, shards[pool.id], config.pool)
    image_of: dict[str, bytes] = {}
    for seed in seeds:
        plan = _plan(store, config, index, seed, shards)
        data = gather_data(store, plan)
        _write_seed(folder / f"seed{seed}.npz", store, plan, data)
        for split, table in data.tables.items():
            image_of |= _images(store, data.splits[split].sources, table)
        image_of |= _images(store, [data.pool], by_source(data.picks)[0])
        print(f"seed {seed}: {data.picks.num_rows} picks", flush=True)
    columns = {"image_id": list(image_of), "image": pa.array(image_of.values(), pa.binary())}
    pq.write_table(pa.table(columns), folder / "images.parquet", use_dictionary=False)
    network = load_network(config.encoder)
    save_file(network.state_dict(), folder / "network.safetensors")
    preprocess = asdict(preprocess_of(config.encoder))
    case = {
        "model": config.encoder.model,
        "preprocess": preprocess,
        "val_share": config.training.val_share,
    }
    (folder / "case.json").write_text(json.dumps(case) + "\n", encoding="utf-8")


def _images(store: Store, of: Sequence, rows: pa.Table) -> dict[str, bytes]:
    return {image.image_id: image.data for image in fetch_each(store, of, rows)}


def _plan(
    store: Store, config: RunConfig, index: IndexInfo, seed: int, shards: dict[str, list[Shard]]
) -> CellPlan:
    of_images = {source.data.images: source for source in sources(config)}
    splits: dict[Split, SplitInfo] = {}
    for split in SPLITS:
        if data := config.dataset(split, seed):
            source = of_images[data.images]
            splits[split] = gather_split(
                store, split, source, index.encoder_id, shards[source.id], data
            )
    pool = source_of(config.pool)
    return CellPlan(
        method=next(m for m in methods(config) if m.name == "selected"),
        seed=seed,
        pool=pool,
        index=index,
        splits=splits,
        selection=select(store, pool, index, splits, config.selection),
        encoder=config.encoder,
        training=config.training,
        compare=config.compare,
    )


def _write_seed(file: Path, store: Store, plan: CellPlan, data: TrainingData) -> None:
    arrays: dict[str, np.ndarray] = {"classes": np.array(data.classes)}
    for split, table in data.tables.items():
        arrays[f"{split}_ids"] = np.array(table["image_id"].to_pylist())
        arrays[f"{split}_labels"] = np.array(table["label"].to_pylist())
    rows = pa.concat_tables(by_source(data.picks))
    is_pool = pc.equal(rows["source"], "pool").to_numpy()
    arrays["added_ids"] = np.array(rows["image_id"].to_pylist())
    arrays["added_labels"] = np.array(rows["label"].to_pylist())
    arrays["added_weights"] = rows["weight"].to_numpy()
    arrays["is_pool"] = is_pool
    is_targeted = pc.is_in(rows["image_id"], value_set=data.targeted).to_numpy()
    arrays["is_aimed"] = ~is_pool | is_targeted
    noise = doubt_of(store, data, plan.training).noise
    assert noise is not None
    arrays["noise"] = noise
    for name, head in (
        ("none", starting_head(data.tables["train"], plan.training, plan.seed)),
        ("probe", probing_head(store, data, plan.training, plan.seed)),
    ):
        arrays[f"{name}_weight"], arrays[f"{name}_bias"] = head.weight, head.bias
    np.savez_compressed(file, **arrays)
