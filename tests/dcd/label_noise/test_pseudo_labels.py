"""Images without a label get one where that is sure, at every door, and it is told."""

import io
import shutil
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from dcd.config import RunConfig, load_config
from dcd.errors import ConfigError, DataError, LabelError
from dcd.index.info import IndexInfo, indexes, of_given_labels
from dcd.index.read import pool_rows, pool_sample
from dcd.label_noise.pool_agreement import pool_reference
from dcd.label_noise.pseudo_labels import read_pseudo_labels
from dcd.runs import loop
from dcd.runs.forgetting import find_pictures, forget, plan_forgetting
from dcd.runs.pruning import plan_pruning, prune
from dcd.runs.steps import embed_sources, gathered, index_of, with_unlabelled
from dcd.store import Store, keys
from dcd.store.verify import repair, verify
from tests.case import write_case

# Bare pixels tell three colours apart, and cost no network; they are no model to save.
_PIXELS = {"model": "pixels", "input_size": 16}
_NETWORK = {"model": "test_resnet", "weights": "random", "input_size": 32}


def is_hidden(image_id: str) -> bool:
    """Whether an image has no label: every third group of six, which has every kind once."""
    return int(image_id[1:]) // 6 % 3 == 0


def pool_tables(folder: Path) -> pa.Table:
    return pa.concat_tables(pq.read_table(f) for f in sorted(folder.glob("pool-*.parquet")))


def hide_labels(folder: Path) -> list[str]:
    """Take the weak labels of every third pool image away; their ids."""
    hidden = []
    for file in sorted(folder.glob("pool-*.parquet")):
        table = pq.read_table(file)
        ids = table["image_id"].to_pylist()
        bare = [is_hidden(i) for i in ids]
        hidden += [i for i, one in zip(ids, bare, strict=True) if one]
        labels = pc.if_else(pa.array(bare), pa.scalar(None, pa.string()), table["weak_label"])
        pq.write_table(table.set_column(2, "weak_label", labels), file)
    return hidden


def write_pool(folder: Path, encoder: dict = _PIXELS, **pool: object) -> RunConfig:
    """The tiny case with every third label of its pool hidden; `pool` changes that section."""
    section = {
        "name": "colours",
        "images": str(folder / "pool-*.parquet"),
        "true_labels": str(folder / "truth.parquet"),
        "unlabelled": "posterior",
        "min_posterior": 0.6,
        **pool,
    }
    written = write_case(folder, seeds=(0,), pool=section, encoder=encoder)
    hide_labels(folder)
    return load_config(written)


def as_labels_table(folder: Path) -> dict[str, object]:
    table = pool_tables(folder)
    given = table.filter(table["weak_label"].is_valid())
    rows = given.select(["image_id", "weak_label"]).rename_columns(["image_id", "label"])
    pacsv.write_csv(rows, folder / "labels.csv")
    return {"labels": str(folder / "labels.csv")}


def as_blank_cells(folder: Path) -> dict[str, object]:
    table = pool_tables(folder).select(["image_id", "weak_label"])
    rows = table.rename_columns(["image_id", "label"])
    pq.write_table(rows, folder / "labels.parquet")
    return {"labels": str(folder / "labels.parquet")}


def as_where(folder: Path) -> dict[str, object]:
    """Blank cells, with the images of an odd number none of the pool's."""
    rows = pool_tables(folder).select(["image_id", "weak_label"])
    odd = pa.array([int(i[1:]) % 2 for i in rows["image_id"].to_pylist()])
    rows = rows.rename_columns(["image_id", "label"]).append_column("odd", odd)
    pq.write_table(rows, folder / "labels.parquet")
    return {"labels": str(folder / "labels.parquet"), "where": "odd = 0"}


def as_tars(folder: Path) -> dict[str, object]:
    with tarfile.open(folder / "pool.tar", "w") as tar:
        for row in pool_tables(folder).to_pylist():
            files = {"png": row["image"]}
            if row["weak_label"] is not None:
                files["cls"] = row["weak_label"].encode()
            for suffix, data in files.items():
                member = tarfile.TarInfo(f"{row['image_id']}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return {"images": str(folder / "pool.tar"), "true_labels": None}


def as_folders(folder: Path) -> dict[str, object]:
    """Class folders, and the images without a label in none of them."""
    for row in pool_tables(folder).to_pylist():
        place = folder / "pool" / (row["weak_label"] or "")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{row['image_id']}.png").write_bytes(row["image"])
    return {"images": str(folder / "pool"), "true_labels": None}


def as_manifest(folder: Path) -> dict[str, object]:
    as_folders(folder)
    lines = ["uri,label"]
    for row in pool_tables(folder).to_pylist():
        place = "/".join(filter(None, ("pool", row["weak_label"], f"{row['image_id']}.png")))
        lines.append(f"{place},{row['weak_label'] or ''}")
    (folder / "pool.csv").write_text("\n".join(lines) + "\n")
    return {"images": str(folder / "pool.csv"), "true_labels": None}


def as_queries(folder: Path) -> dict[str, object]:
    """A label map that does not name blue: those have a label, and are none of a class."""
    (folder / "map.csv").write_text("weak_label,label\nred,red\ngreen,green\n")
    return {"label_map": str(folder / "map.csv")}


DOORS: dict[str, tuple[Callable[[Path], dict[str, object]], int]] = {
    "a parquet of images": (lambda folder: {}, 24),
    "a labels table": (as_labels_table, 24),
    "blank cells of a labels table": (as_blank_cells, 24),
    "rows that a predicate picks": (as_where, 12),
    "tars": (as_tars, 24),
    "class folders": (as_folders, 24),
    "a manifest": (as_manifest, 24),
    "a label map": (as_queries, 24),
}


def built(config: RunConfig) -> tuple[Store, IndexInfo]:
    store = Store(config.store)
    embedded = embed_sources(store, config)
    base = index_of(store, config, embedded)
    train = gathered(store, config, 0, embedded)["train"]
    return store, with_unlabelled(store, config, base, train, embedded)


def right(folder: Path, labels: pa.Table) -> float:
    truth = pq.read_table(folder / "truth.parquet").to_pylist()
    of = {row["image_id"]: row["label"] for row in truth}
    rows = labels.to_pylist()
    named = {row["image_id"].rpartition("/")[2].removesuffix(".png"): row["label"] for row in rows}
    return float(np.mean([of[i] == label for i, label in named.items()]))


@pytest.mark.parametrize("door", DOORS)
def test_images_without_a_label_get_one_at_every_door(door: str, tmp_path: Path):
    write_pool(tmp_path)
    form, n_hidden = DOORS[door]
    section = form(tmp_path)
    for file in tmp_path.glob("pool-*.parquet") if "images" in section else ():
        file.rename(file.with_suffix(".gone"))
    config = load_config(tmp_path / "config.yaml")
    config = config.model_copy(update={"pool": config.pool.model_copy(update=section)})
    store, index = built(config)
    assert index.pseudo is not None
    of = index.pseudo
    assert (of.n_images, of.n_known) == (n_hidden, 0)
    assert of.n_labelled + of.n_unsure == n_hidden
    assert of.n_labelled > n_hidden / 2
    labels = read_pseudo_labels(store, index)
    assert labels.num_rows == of.n_labelled
    assert pc.min(labels["posterior"]).as_py() >= 0.6
    assert right(tmp_path, labels) > 0.85
    base = of_given_labels(store, index)
    assert index.n_rows == base.n_rows + of.n_labelled
    assert index.n_unlabelled == base.n_unlabelled - of.n_labelled
    held = pool_rows(store, index)
    pairs = set(zip(held["image_id"].to_pylist(), held["label"].to_pylist(), strict=True))
    assert {(r["image_id"], r["label"]) for r in labels.to_pylist()} <= pairs
    assert set(held["image_id"].to_pylist()) >= set(labels["image_id"].to_pylist())


def test_by_default_they_stay_out(tmp_path: Path):
    config = write_pool(tmp_path, unlabelled="left_out", min_posterior=0.9)
    store, index = built(config)
    assert (index.pseudo, index.n_unlabelled, index.n_rows) == (None, 24, 48)
    assert "unlabelled" not in config.model_dump_json(), "a run without it keeps its id"
    assert not [key for key in store.keys_under("index") if "pseudo" in key]


def test_blank_cells_are_refused_by_default(tmp_path: Path):
    config = write_pool(tmp_path, unlabelled="left_out", min_posterior=0.9)
    pool = config.pool.model_copy(update=as_blank_cells(tmp_path))
    with pytest.raises(LabelError, match="24 rows without label"):
        built(config.model_copy(update={"pool": pool}))


def test_a_threshold_without_the_switch_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="set unlabelled: posterior, or remove it"):
        write_pool(tmp_path, unlabelled="left_out")


def test_a_pool_without_any_label_is_refused(tmp_path: Path):
    config = write_pool(tmp_path)
    for file in tmp_path.glob("pool-*.parquet"):
        table = pq.read_table(file)
        bare = pa.nulls(table.num_rows, pa.string())
        pq.write_table(table.set_column(2, "weak_label", bare), file)
    with pytest.raises(DataError, match="asks an image's neighbours, of which some need a label"):
        built(config)


def test_a_picture_that_has_a_label_elsewhere_is_none_without(tmp_path: Path):
    config = write_pool(tmp_path)
    table = pool_tables(tmp_path)
    given = table.filter(table["weak_label"].is_valid()).slice(0, 2)
    again = given.set_column(0, "image_id", pa.array(["twin-0", "twin-1"]))
    bare = again.set_column(2, "weak_label", pa.nulls(2, pa.string()))
    pq.write_table(bare, tmp_path / "pool-9.parquet")
    store, index = built(config)
    assert index.pseudo is not None
    assert (index.pseudo.n_images, index.pseudo.n_known) == (26, 2)
    assert not [i for i in pool_rows(store, index)["image_id"].to_pylist() if "twin" in i]


def test_a_label_that_was_found_is_no_evidence(tmp_path: Path):
    store, index = built(write_pool(tmp_path))
    base = of_given_labels(store, index)
    assert base.index_id != index.index_id
    assert len(pool_reference(store, index).labels) == base.n_rows
    assert pool_sample(store, index).num_rows == index.n_rows


def test_new_shards_are_labelled_too_and_nothing_is_made_twice(tmp_path: Path):
    config = write_pool(tmp_path)
    last = tmp_path / "pool-2.parquet"
    shutil.move(last, tmp_path / "later")
    store, first = built(config)
    made = set(store.keys_under("index"))
    assert built(config)[1] == first
    assert set(store.keys_under("index")) == made
    shutil.move(tmp_path / "later", last)
    _, grown = built(config)
    assert grown.pseudo is not None
    assert first.pseudo is not None
    assert (first.pseudo.n_images, grown.pseudo.n_images) == (18, 24)
    assert grown.pseudo.base in {index.index_id for index in indexes(store, *_place(grown))}
    rest = read_pseudo_labels(store, grown)
    assert set(rest["image_id"].to_pylist()) - set(
        read_pseudo_labels(store, first)["image_id"].to_pylist()
    )


def _place(index: IndexInfo) -> tuple[str, str]:
    return index.pool, index.encoder_id


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> tuple[RunConfig, str]:
    """A whole run with images without a label, and its id."""
    config = write_pool(tmp_path_factory.mktemp("case"), _NETWORK, min_posterior=0.5)
    return config, loop.run(config).run_id


@pytest.fixture
def case(finished, tmp_path: Path):
    """The store of that run, put back afterwards."""
    config, run_id = finished
    shutil.copytree(config.store, tmp_path / "whole")
    yield config, Store(config.store), run_id
    shutil.rmtree(config.store)
    shutil.copytree(tmp_path / "whole", config.store)


def test_a_run_says_which_picks_came_without_a_label(case):
    _, store, run_id = case
    picks = store.read_table(keys.run_table(run_id, "debug_train"))
    guessed = picks.filter(picks["posterior"].is_valid())
    assert 0 < guessed.num_rows < picks.num_rows
    assert all(map(is_hidden, guessed["image_id"].to_pylist()))
    card = store.read_json(keys.run_card(run_id))["pseudo_labels"]
    assert card["n_images"] == 24 == card["n_labelled"] + card["n_unsure"] + card["n_known"]
    assert card["n_picks"] == guessed.num_rows
    targeted = {r["image_id"]: r for r in guessed.to_pylist() if r["role"] == "targeted"}
    assert {p["image_id"]: (p["label"], p["posterior"]) for p in card["picks"]} == {
        i: (r["label"], round(r["posterior"], 4)) for i, r in targeted.items()
    }
    page = store.read_bytes(keys.run_report(run_id)).decode()
    assert "<h2>Images without a label</h2>" in page
    assert "Of 24 pool images without a label" in page
    assert page.count("no label, ") >= len(targeted) > 0
    assert "## Images without a label" in store.read_bytes(keys.run_card_text(run_id)).decode()


def test_a_damaged_table_is_made_again_as_it_was(case):
    config, store, run_id = case
    (key,) = [k for k in store.keys_under("index") if k.endswith("pseudo_labels.parquet")]
    before, picks = store.read_table(key), keys.run_table(run_id, "debug_train")
    was = store.read_table(picks)
    path = Path(store.path(key))
    path.write_bytes(path.read_bytes()[:-9])
    assert [one.key for one in verify(store) if one.fault] == [key]
    assert key in repair(store, verify(store))
    info = loop.run(config)
    assert info.run_id == run_id
    assert store.read_table(key).equals(before)
    assert store.read_table(picks).equals(was)
    assert [one.key for one in verify(store, deep=True) if one.fault] == []


def test_pruning_keeps_what_a_run_needs(case):
    config, store, run_id = case
    index_id = store.read_json(keys.run_card(run_id))["lineage"]["index_id"]
    other = config.pool.model_copy(update={"min_posterior": 0.99})
    built(config.model_copy(update={"pool": other}))
    later = datetime.now(UTC) + timedelta(days=1)
    planned = plan_pruning(store, 1, later)
    prune(store, planned.unneeded)
    kept = [key for key in store.keys_under("index") if index_id in key]
    assert "pseudo_labels.parquet" in {key.rpartition("/")[2] for key in kept}
    assert [part.key for part in planned.unneeded if part.kind == "index"] == []
    assert loop.run(config).run_id == run_id


def test_a_forgotten_picture_leaves_its_label_too(case):
    _, store, run_id = case
    picks = store.read_table(keys.run_table(run_id, "debug_train")).to_pylist()
    image_id = next(p["image_id"] for p in picks if p["posterior"] and p["role"] == "targeted")
    planned = plan_forgetting(store, find_pictures(store, [image_id]))
    forget(store, planned)
    for key in store.keys_under(""):
        if key.endswith(".parquet"):
            table = store.read_table(key)
            held = {v for n in table.column_names for v in map(str, table[n].to_pylist())}
            assert image_id not in held, key
        else:
            assert f'"{image_id}"'.encode() not in store.read_bytes(key), key


def test_a_pool_and_a_store_on_s3(s3_url: str, tmp_path: Path):
    config = write_pool(tmp_path)
    fs, _ = fsspec.core.url_to_fs(s3_url)
    for file in tmp_path.glob("pool-*.parquet"):
        fs.put_file(str(file), f"{s3_url}/images/{file.name}")
    local_store, local = built(config)
    pool = config.pool.model_copy(update={"images": f"{s3_url}/images/pool-*.parquet"})
    there = config.model_copy(update={"store": f"{s3_url}/store", "pool": pool})
    store, index = built(there)
    assert index.pseudo is not None
    assert local.pseudo is not None
    assert index.pseudo.n_labelled == local.pseudo.n_labelled
    assert read_pseudo_labels(store, index).equals(read_pseudo_labels(local_store, local))
