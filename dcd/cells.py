"""One cell of a comparison: a method at a seed, trained, evaluated and published once."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dcd import keys, methods, schemas
from dcd.config import CompareConfig, EncoderConfig, Split, TrainingConfig
from dcd.datasets import Source, fetch, fetch_all
from dcd.encoders import load_network, preprocess_of
from dcd.errors import LabelError
from dcd.evaluation import Predicted, predict, predictions_table
from dcd.finetune import finetune, predict_images
from dcd.hardness import hardest
from dcd.index import IndexInfo, vectors_of
from dcd.methods import Method
from dcd.models import save_model, with_head
from dcd.stages import SelectionInfo, SplitInfo, blocked_content, free_rows
from dcd.store import Store
from dcd.training import LinearHead, fit_standardizer, train_head

_CELL_FORMAT = 1
_SAVED_METHODS = ("none", "selected")


@dataclass(frozen=True)
class CellPlan:
    """Everything that decides a cell's figures.

    `selection` is the method's own one, or that of `selected` for baselines that draw as many.
    """

    method: Method
    seed: int
    pool: Source
    index: IndexInfo
    splits: Mapping[Split, SplitInfo]
    selection: SelectionInfo
    encoder: EncoderConfig
    training: TrainingConfig
    compare: CompareConfig

    @property
    def id(self) -> str:
        """Digest of what the cell depends on, and of nothing else."""
        method = self.method
        match method.draw:
            case "none":
                pool = None
            case "whole_pool":
                pool = [self.index.index_id, self.compare.whole_pool_max_images]
            case "uncertainty":
                pool = [self.index.index_id, self.selection.id, self.compare.uncertainty]
            case _:
                pool = [self.index.index_id, self.selection.id]
        # A selection's settings are part of its id; the table's name for it does not count.
        return keys.digest(
            "cell",
            _CELL_FORMAT,
            [method.draw, method.with_error_sample, method.name in _SAVED_METHODS],
            self.seed,
            self.index.encoder_id,
            sorted([split, info.id] for split, info in self.splits.items()),
            pool,
            self.training,
        )


@dataclass(frozen=True)
class CellInfo:
    """A finished cell: `id` names its picks, predictions and model in the store."""

    id: str
    method: str
    seed: int
    n_picks: int
    reused: bool


def run_cell(
    store: Store, plan: CellPlan, on_epoch: Callable[[int], None] | None = None
) -> CellInfo:
    """Train and evaluate one cell, unless it is there; predictions are published last."""
    prefix = keys.cell(plan.id)
    if store.exists(f"{prefix}/predictions.parquet"):
        picks = store.read_table(f"{prefix}/picks.parquet", ["image_id"])
        return CellInfo(plan.id, plan.method.name, plan.seed, picks.num_rows, reused=True)
    picks = draw_picks(store, plan)
    tables: dict[Split, pa.Table] = {
        split: store.read_table(keys.split(info.id)) for split, info in plan.splits.items()
    }
    classes = tuple(sorted(set(tables["train"]["label"].to_pylist())))
    unknown = sorted(set(picks["label"].to_pylist()) - set(classes))
    if unknown:
        # Whole-pool draws may hold labels the model does not know; the failing labels never do.
        picks = picks.filter(pc.is_in(picks["label"], value_set=pa.array(classes)))
    if not set(tables["error_sample"]["label"].to_pylist()) <= set(classes):
        raise LabelError("error_sample has labels that train does not know; add images of them")
    with tempfile.TemporaryDirectory() as scratch:
        train = _train_head if plan.training.mode == "head" else _train_full
        save_to = Path(scratch) if plan.method.name in _SAVED_METHODS else None
        predicted = train(store, plan, tables, picks, classes, save_to)
        for file in sorted(Path(scratch).iterdir()):
            store.publish_file(file, f"{prefix}/model/{file.name}")
    predictions = pa.concat_tables(
        predictions_table(plan.method.name, plan.seed, split, tables[split], found)
        for split, found in predicted.items()
    )
    described = {"method": str(asdict(plan.method)), "training": plan.training.model_dump_json()}
    store.write_table(f"{prefix}/picks.parquet", picks, metadata=described)
    store.write_table(f"{prefix}/predictions.parquet", predictions, metadata=described)
    return CellInfo(plan.id, plan.method.name, plan.seed, picks.num_rows, reused=False)


def draw_picks(store: Store, plan: CellPlan) -> pa.Table:
    """The images that the method adds to train: schemas.PICKS."""
    method = plan.method
    if method.draw == "none":
        picks = schemas.PICKS.empty_table()
    else:
        reference = store.read_table(f"{keys.selection(plan.selection.id)}/debug_train.parquet")
        blocked = blocked_content(store, plan.splits)
        picks = methods.pool_picks(
            method,
            free_rows(store, plan.index, blocked),
            reference,
            plan.compare,
            plan.seed,
            lambda by, n: hardest(store, plan.index, failing_head(store, plan), blocked, by, n),
        )
    if method.with_error_sample:
        errors = store.read_table(
            keys.split(plan.splits["error_sample"].id), ["image_id", "label", "shard"]
        )
        picks = methods.with_error_sample(picks, errors)
    return picks


def failing_head(store: Store, plan: CellPlan) -> LinearHead:
    """The model that fails, as a classifier on the encoder's features: fitted to train alone."""
    train = store.read_table(keys.split(plan.splits["train"].id))
    features, labels = schemas.vectors(train), train["label"].to_pylist()
    classes = tuple(sorted(set(labels)))
    standardizer = fit_standardizer(features)
    return train_head(features, labels, classes, standardizer, plan.training.l2)


def _train_head(
    store: Store,
    plan: CellPlan,
    tables: Mapping[Split, pa.Table],
    picks: pa.Table,
    classes: tuple[str, ...],
    save_to: Path | None,
) -> dict[Split, Predicted]:
    train = tables["train"]
    standardizer = fit_standardizer(schemas.vectors(train))
    features, labels = [schemas.vectors(train)], train["label"].to_pylist()
    weights = [np.ones(train.num_rows, np.float32)]
    for source, table in _picked_features(store, plan, tables, picks):
        of_source = picks.filter(pc.equal(picks["source"], source))
        row_of_id = pc.index_in(of_source["image_id"], value_set=table["image_id"].combine_chunks())
        features.append(schemas.vectors(table.take(row_of_id)))
        labels += of_source["label"].to_pylist()
        weights.append(of_source["weight"].to_numpy())
    head = train_head(
        np.concatenate(features),
        labels,
        classes,
        standardizer,
        plan.training.l2,
        np.concatenate(weights),
    )
    if save_to is not None:
        network = with_head(load_network(plan.encoder), head)
        save_model(save_to, network, classes, preprocess_of(plan.encoder), plan.encoder.model)
    found: dict[Split, Predicted] = {
        split: predict(head, schemas.vectors(table))
        for split, table in tables.items()
        if split != "train"
    }
    return found


def _picked_features(
    store: Store, plan: CellPlan, tables: Mapping[Split, pa.Table], picks: pa.Table
) -> list[tuple[str, pa.Table]]:
    from_pool = picks.filter(pc.equal(picks["source"], "pool"))
    found = []
    if from_pool.num_rows:
        found.append(("pool", vectors_of(store, plan.index, from_pool["image_id"])))
    if from_pool.num_rows < picks.num_rows:
        found.append(("error_sample", tables["error_sample"]))
    return found


def _train_full(
    store: Store,
    plan: CellPlan,
    tables: Mapping[Split, pa.Table],
    picks: pa.Table,
    classes: tuple[str, ...],
    save_to: Path | None,
) -> dict[Split, Predicted]:
    preprocess = preprocess_of(plan.encoder)
    images = {
        split: fetch_all(store, info.sources, tables[split]) for split, info in plan.splits.items()
    }
    pool_images = fetch(store, plan.pool, picks.filter(pc.equal(picks["source"], "pool")))
    added = [
        (images["error_sample"] if row["source"] == "error_sample" else pool_images)[
            row["image_id"]
        ]
        for row in picks.to_pylist()
    ]
    network = finetune(
        load_network(plan.encoder, len(classes)),
        [*(images["train"][i] for i in tables["train"]["image_id"].to_pylist()), *added],
        tables["train"]["label"].to_pylist() + picks["label"].to_pylist(),
        classes,
        preprocess,
        plan.training,
        plan.seed,
    )
    if save_to is not None:
        save_model(save_to, network, classes, preprocess, plan.encoder.model)
    return {
        split: predict_images(
            network, [images[split][i] for i in table["image_id"].to_pylist()], classes, preprocess
        )
        for split, table in tables.items()
        if split != "train"
    }
