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

from benchmarks.cases import Case
from dcd.cells.cell import CellPlan, gather_data
from dcd.cells.networks import probing_head, starting_head
from dcd.cells.train import TrainingData, by_source, doubt_of
from dcd.config import RunConfig, load_config
from dcd.encoders.network import load_network, preprocess_of
from dcd.sources.source import Source, fetch_each
from dcd.store import Store


def write_case(config_path: Path, folder: Path, seeds: Sequence[int], general_images: int) -> None:
    """Write the images of the case once, and a file for each seed.

    general_images: at most, which the first stage learns; the selection's other settings are the
    defaults.
    """
    document = load_config(config_path).model_dump()
    document["selection"] |= {"k": 50, "general_images": general_images}
    case = Case.embedded(RunConfig.model_validate(document))
    store, config = case.store, case.config
    image_of: dict[str, bytes] = {}
    for seed in seeds:
        plan = case.plan(case.method("selected"), seed)
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
    described = {
        "model": config.encoder.model,
        "preprocess": preprocess,
        "val_share": config.training.val_share,
    }
    (folder / "case.json").write_text(json.dumps(described) + "\n", encoding="utf-8")


def _images(store: Store, of: Sequence[Source], rows: pa.Table) -> dict[str, bytes]:
    return {image.image_id: image.data for image in fetch_each(store, of, rows)}


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
    np.savez_compressed(file, allow_pickle=False, **arrays)
