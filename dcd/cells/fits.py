"""Take a finished cell apart: the fits that its head is the weighted sum of, image by image."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dcd.cells.candidates import training_set
from dcd.cells.cell import CellPlan, gather_data
from dcd.cells.lines import shares_at
from dcd.cells.train import TrainingData, by_source, rows_of
from dcd.cells.train_recipe import fit_ends
from dcd.config import TrainingConfig
from dcd.errors import DataError
from dcd.store import Store, keys
from dcd.tables import schemas
from dcd.training.data import TrainingSet
from dcd.training.head import LinearHead, Standardizer, fit_standardizer, loss_weights
from dcd.training.head_average import average_heads
from dcd.training.robust_head import drops, fit_head, without_high_loss
from dcd.training.saved_heads import read_head

_IMAGES = pa.schema([(name, pa.string()) for name in ("image_id", "label", "source", "shard")])

# Of the largest weight: by how much heads that are fitted again may differ from the saved one,
# which another processor fitted.
_ROUNDING = 0.02


@dataclass(frozen=True, eq=False)
class HeadFit:
    """One fit: its head has `share` in the model. rows: (n,) places of its images in the cell's."""

    name: str
    share: float
    rows: np.ndarray
    data: TrainingSet
    standardizer: Standardizer
    config: TrainingConfig
    head: LinearHead


@dataclass(frozen=True, eq=False)
class CellFits:
    """images: image_id, label, source (train, pool or error_sample), shard of all rows, in order.

    head: the weighted sum of the fits.
    """

    images: pa.Table
    fits: tuple[HeadFit, ...]
    head: LinearHead


def fits_of_cell(store: Store, plan: CellPlan) -> CellFits:
    """Fit a finished cell's heads again, those of the chosen point alone.

    Raises DataError for a cell that trained a whole network, or whose saved model is another one;
    ObjectNotFound where something that it was made of is gone.
    """
    config = plan.own_training
    if config.mode == "full":
        raise DataError(
            f"{plan.method.name}: is a whole network (training.mode: full), whose features change "
            "with every image; influence is that of images on a head: run with mode: head"
        )
    data = gather_data(store, plan)
    if plan.objective == "fixed":
        found = _single(store, plan, data, config)
    else:
        found = _on_a_line(store, plan, data, config)
    saved = read_head(store, keys.cell_model(plan.id).rstrip("/"))
    if saved is not None and not _alike(saved, found.head):
        raise DataError(
            f"cell {plan.id}: its heads, fitted again, give another model than the saved one; "
            "it is of another version: run the config again"
        )
    return found


def _single(store: Store, plan: CellPlan, data: TrainingData, config: TrainingConfig) -> CellFits:
    rows = rows_of(store, data, config)
    n_train = data.tables["train"].num_rows
    standardizer = fit_standardizer(rows.features[:n_train])
    weight = loss_weights(rows.labels, n_train, rows.added_weight, config)
    every = TrainingSet(rows.features, rows.labels, data.classes, weight, rows.doubt)
    kept = np.arange(len(every))
    if drops(every, config):
        kept = without_high_loss(every, standardizer, config)
    head = fit_head(every, standardizer, config)
    taken = every.take(kept)
    fit = HeadFit(plan.method.name, 1.0, kept, taken, standardizer, config, head)
    return CellFits(_images(data, data.picks), (fit,), head)


def _on_a_line(
    store: Store, plan: CellPlan, data: TrainingData, config: TrainingConfig
) -> CellFits:
    shares = _chosen_shares(store, plan)
    found = fit_ends(store, data, config, plan.selection.id, sorted(shares))
    candidates, standardizer = found.candidates, found.compression.standardizer
    every = np.ones(candidates.n_train, bool)
    fits = []
    for end, share in shares.items():
        weight = candidates.weights(end)
        rows = np.r_[np.arange(candidates.n_train), candidates.n_train + np.flatnonzero(weight > 0)]
        of_end = training_set(candidates, candidates.features, weight, every, config)
        if drops(of_end, config):
            start = found.compression.expand(found.starts[end])
            kept = without_high_loss(of_end, standardizer, config, start)
            rows, of_end = rows[kept], of_end.take(kept)
        fits.append(HeadFit(end, share, rows, of_end, standardizer, config, found.heads[end]))
    return CellFits(_images(data, found.picks), tuple(fits), average_heads(found.heads, shares))


def _chosen_shares(store: Store, plan: CellPlan) -> Mapping[str, float]:
    """The shares of the ends in a cell's model, by its curve."""
    key = keys.cell_curve(plan.id)
    chosen = [row for row in store.read_table(key).to_pylist() if row["chosen"]]
    try:
        return shares_at(chosen[0]["line"].split(schemas.BETWEEN), chosen[0]["alpha"])
    except (IndexError, KeyError) as err:
        raise store.damaged(key, f"names no line of this version ({err!r})") from err


def _images(data: TrainingData, picks: pa.Table) -> pa.Table:
    """Train, then the picks by source, as `rows_of` and `Candidates` have them."""
    train = data.tables["train"]
    of_train = train.append_column("source", pa.repeat("train", train.num_rows))
    parts = [of_train, *by_source(picks)]
    return pa.concat_tables([part.select(_IMAGES.names).cast(_IMAGES) for part in parts])


def _alike(saved: LinearHead, again: LinearHead) -> bool:
    if saved.classes != again.classes or saved.weight.shape != again.weight.shape:
        return False
    largest = float(np.abs(saved.weight).max())
    return float(np.abs(saved.weight - again.weight).max()) <= _ROUNDING * largest
