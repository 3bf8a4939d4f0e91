"""Say what a run was made of, seed by seed, so that its models can be taken apart later."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Literal

from dcd.cells.cell import CellPlan
from dcd.cells.methods import methods
from dcd.config import Split
from dcd.errors import DataError, ObjectNotFound
from dcd.failures.registry import SOURCE_ID, registry_source
from dcd.index.info import IndexInfo, index_info
from dcd.runs.finished import run_config
from dcd.selection.select import SelectionInfo
from dcd.sources.source import Source, source_of, sources
from dcd.splits.split import SplitInfo
from dcd.store import Store, keys
from dcd.training.user_model import start_digest

Saved = Literal["selected", "none"]  # the methods whose models a run can take apart


def origins_json(
    splits: Mapping[int, Mapping[Split, SplitInfo]], selections: Mapping[int, SelectionInfo]
) -> dict[str, Any]:
    """Write down the splits of every seed and the selection of `selected`, as JSON.

    Whether a selection was made or reused is left out: a killed run that goes on writes the same.
    """
    return {
        str(seed): {
            "splits": {split: _split_json(info) for split, info in of_seed.items()},
            "selection": asdict(replace(selections[seed], reused=True)),
        }
        for seed, of_seed in splits.items()
    }


def plan_of_run(store: Store, run_id: str, method: Saved = "selected") -> CellPlan:
    """Plan the cell of a method again as a finished run had it, at its first seed.

    Raises DataError where the run is of an older version, or what it was made of is gone.
    """
    config = run_config(store, run_id)
    seed = config.seeds[0]
    key = keys.run_parts(run_id)
    again = f"run its config again (what stands is reused): {store.uri(keys.run_config(run_id))}"
    try:
        noted = store.read_json(key)
        made_of = noted["seeds"][str(seed)]
    except (ObjectNotFound, KeyError, TypeError) as err:
        raise DataError(
            f"{run_id}: was written by an older version, which does not say what its models were "
            f"made of; {again}"
        ) from err
    try:
        by_id = {source.id: source for source in sources(config)}
        by_id[SOURCE_ID] = registry_source(store.url)
        splits: dict[Split, SplitInfo] = {
            split: _split_of(split, info, by_id) for split, info in made_of["splits"].items()
        }
        selection = SelectionInfo(**made_of["selection"])
    except (KeyError, TypeError, AttributeError) as err:
        raise store.damaged(key, f"does not say what the run was made of ({err!r})") from err
    index = index_of_run(store, run_id)
    its_method = next(one for one in methods(config) if one.name == method)
    pool, start = source_of(config.pool), start_digest(config.training.start)
    plan = CellPlan.of(config, its_method, seed, pool, index, splits, selection, start)
    if keys.cell(plan.id) not in noted["parts"]:
        raise DataError(f"{run_id}: its model of {method} is of another version of dcd; {again}")
    if not store.exists(keys.cell_predictions(plan.id)):
        raise DataError(f"{run_id}: its model of {method} is gone, as after pruning; {again}")
    return plan


def index_of_run(store: Store, run_id: str) -> IndexInfo:
    """Read which index a finished run searched. Raises DataError if that is gone."""
    card = store.read_json(keys.run_card(run_id))
    try:
        made_from = card["lineage"]
        return index_info(store, made_from["pool"], made_from["encoder_id"], made_from["index_id"])
    except (KeyError, TypeError) as err:
        raise store.damaged(keys.run_card(run_id), f"is no card of a run ({err!r})") from err
    except ObjectNotFound as err:
        raise DataError(
            f"{run_id}: the index that it searched is gone, pruned or made without a picture that "
            "was forgotten; run its config again first"
        ) from err


def _split_json(info: SplitInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "source": info.source.id,
        "n_labelled": info.n_labelled,
        "n_images": info.n_images,
        "added": None if info.added is None else info.added.id,
        "made_from": info.made_from,
        "unnamed_id": info.unnamed_id,
    }


def _split_of(split: Split, noted: Mapping[str, Any], by_id: Mapping[str, Source]) -> SplitInfo:
    return SplitInfo(
        id=noted["id"],
        split=split,
        source=by_id[noted["source"]],
        n_labelled=noted["n_labelled"],
        n_images=noted["n_images"],
        reused=True,
        added=None if noted["added"] is None else by_id[noted["added"]],
        made_from=tuple(noted["made_from"]),
        unnamed_id=noted["unnamed_id"],
    )
