"""Selections in which LPIPS orders the candidates; the pool holds copies of a failure."""

import io
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from dcd.config import SelectionConfig
from dcd.errors import ConfigError, DataError, EncoderError
from dcd.index.read import pool_rows
from dcd.selection import rerank
from dcd.selection.lpips import load_lpips
from dcd.selection.rerank import FARTHER
from dcd.selection.select import SelectionInfo, select
from dcd.selection.trusted_search import UNTRUSTED
from dcd.sources.source import fetch
from dcd.store import keys
from dcd.tables import schemas
from tests.case import write_case
from tests.dcd.cells.cell_case import CellCase
from tests.dcd.selection.lpips_reference import lpips_distances
from tests.dcd.selection.lpips_weights import write_alexnet

FAILURE = "error_sample-red-0"
N_CANDIDATES = 6
PLAIN = {"k": 2, "min_agreement": 0, "general_images": 0, "leak_distance": 0}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> CellCase:
    """The pool has a failure twice: `exact` with the same bytes, `twin` with the same pixels."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("lpips")
    write_case(folder, seeds=(0,))
    own = pq.read_table(folder / "own.parquet")
    failure = own.filter(pc.equal(own["image_id"], FAILURE))["image"][0].as_py()
    sink = io.BytesIO()
    Image.open(io.BytesIO(failure)).save(sink, "PNG", compress_level=0)
    copies = {"image_id": ["exact", "twin"], "image": [failure, sink.getvalue()]}
    added = pa.table({**copies, "weak_label": ["red", "red"]})
    shard = folder / "pool-0.parquet"
    pq.write_table(pa.concat_tables([pq.read_table(shard), added]), shard)
    return CellCase(folder)


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_alexnet(tmp_path_factory.mktemp("alexnet") / "alexnet.pth")


def run(case: CellCase, lpips: Mapping[str, object] | None, **settings: object) -> SelectionInfo:
    config = SelectionConfig.model_validate(PLAIN | {"lpips": lpips} | settings)
    return select(case.store, case.pool, case.index, case.splits, config)


def neighbors_of(case: CellCase, info: SelectionInfo) -> pa.Table:
    return case.store.read_table(f"{keys.selection(info.id)}/neighbors.parquet")


def brute_force(case: CellCase, backbone: str, failure: str, candidates: list[str]) -> list[float]:
    """LPIPS of every candidate, one by one."""
    places = pool_rows(case.store, case.index)
    places = places.filter(pc.is_in(places["image_id"], value_set=pa.array(candidates)))
    images = fetch(case.store, case.pool, places)
    split = case.splits["error_sample"]
    rows = case.store.read_table(keys.split(split.id), ["image_id", "shard"])
    query = fetch(case.store, split.source, rows)[failure]
    found = lpips_distances(load_lpips(backbone), query, [images[i] for i in candidates])
    return found.tolist()


def test_reranking_is_brute_force_among_the_encoders_candidates(case: CellCase, backbone: str):
    lpips = {"backbone": backbone, "candidates": N_CANDIDATES}
    info = run(case, lpips)
    found = schemas.conform(neighbors_of(case, info), schemas.RERANKED_NEIGHBORS, "neighbors")
    plain = neighbors_of(case, run(case, None, k=N_CANDIDATES))
    moved = 0
    for failure in (FAILURE, "error_sample-blue-1"):
        by_encoder = plain.filter(pc.equal(plain["error_image_id"], failure))
        candidates = by_encoder.filter(by_encoder["kept"])["image_id"].to_pylist()
        distances = brute_force(case, backbone, failure, candidates)
        expected = [image for _, image in sorted(zip(distances, candidates, strict=True))]
        rows = found.filter(pc.equal(found["error_image_id"], failure)).to_pylist()
        compared = [row for row in rows if row["lpips"] is not None]
        assert [row["image_id"] for row in compared] == expected
        assert [row["lpips"] for row in compared] == pytest.approx(sorted(distances), rel=1e-4)
        assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
        assert [row["reason"] for row in compared] == [None] * 2 + [FARTHER] * 4
        moved += expected != candidates
        l2 = dict(zip(*(by_encoder[n].to_pylist() for n in ("image_id", "distance")), strict=True))
        assert {row["image_id"]: row["distance"] for row in rows} == l2
    assert moved
    assert info.fill_rate == 1


def test_the_same_picture_is_first_and_the_failure_itself_is_not_compared(
    case: CellCase, backbone: str
):
    found = neighbors_of(case, run(case, {"backbone": backbone, "candidates": N_CANDIDATES}))
    rows = found.filter(pc.equal(found["error_image_id"], FAILURE)).to_pylist()
    assert (rows[0]["image_id"], rows[0]["rank"]) == ("twin", 1)
    assert rows[0]["lpips"] == pytest.approx(0, abs=1e-9)
    (exact,) = [row for row in rows if row["image_id"] == "exact"]
    assert (exact["kept"], exact["reason"], exact["lpips"]) == (False, "in error_sample", None)
    assert exact["rank"] == len(rows)


def test_refused_candidates_are_replaced(case: CellCase, backbone: str):
    """What LPIPS compares is what the same selection keeps without it, at so large a k."""
    trusting = {"min_agreement": 0.6, "leak_distance": 0.01}
    lpips = {"backbone": backbone, "candidates": N_CANDIDATES}
    found = neighbors_of(case, run(case, lpips, **trusting))
    refused = found.filter(pc.equal(found["reason"], UNTRUSTED))
    assert refused.num_rows
    assert refused["lpips"].null_count == refused.num_rows
    compared = pairs_of(found.filter(pc.is_valid(found["lpips"])))
    trusted = neighbors_of(case, run(case, None, k=N_CANDIDATES, **trusting))
    assert compared == pairs_of(trusted.filter(trusted["kept"]))
    assert compared - pairs_of(neighbors_of(case, run(case, None, k=N_CANDIDATES)))
    kept = pairs_of(found.filter(found["kept"]))
    assert len(kept) == 2 * len({failure for failure, _ in compared})


def pairs_of(table: pa.Table) -> set[tuple[str, str]]:
    return {(row["error_image_id"], row["image_id"]) for row in table.to_pylist()}


def test_the_id_is_that_of_the_weights_not_of_their_place(
    case: CellCase, backbone: str, tmp_path: Path
):
    first = run(case, {"backbone": backbone, "candidates": N_CANDIDATES}).id
    path = tmp_path / "alexnet.safetensors"
    lpips = {"backbone": write_alexnet(path), "candidates": N_CANDIDATES, "max_comparisons": 99}
    again = run(case, lpips)
    assert (again.id, again.reused) == (first, True)
    write_alexnet(path, seed=1)
    assert run(case, lpips).id != first
    ids = {first, run(case, lpips | {"candidates": 5}).id, run(case, None).id}
    assert len(ids) == 3


def test_another_k_reads_no_image_again(
    case: CellCase, backbone: str, monkeypatch: pytest.MonkeyPatch
):
    lpips = {"backbone": backbone, "candidates": N_CANDIDATES}
    run(case, lpips)
    monkeypatch.setattr(rerank, "pair_distances", None)
    assert not run(case, lpips, k=1).reused
    assert run(case, lpips, k_candidates=(1, 3)).fill_rate == 1


def test_the_switches_choose_among_the_nearest_by_lpips(case: CellCase, backbone: str):
    lpips = {"backbone": backbone, "candidates": N_CANDIDATES}
    info = run(case, lpips, k=1, diversity=True)
    assert info.fill_rate == 1
    found = neighbors_of(case, info)
    farther = found.filter(pc.equal(found["reason"], FARTHER))
    assert pc.min(farther["rank"]).as_py() == 4  # 3 k were to choose from


def test_what_does_not_fit_is_said_before_any_work(case: CellCase, backbone: str):
    with pytest.raises(ConfigError, match=r"lpips\.candidates: 5 are fewer than the 6"):
        run(case, {"backbone": backbone, "candidates": 5}, diversity=True)
    with pytest.raises(ConfigError, match=r"9 failures with 6 .* 54 comparisons.*\(53\)"):
        run(case, {"backbone": backbone, "candidates": 6, "max_comparisons": 53})
    with pytest.raises(EncoderError, match=r"absent\.pth: weights cannot be read"):
        run(case, {"backbone": "absent.pth", "candidates": 6})


def test_images_that_are_gone_are_named(case: CellCase, backbone: str):
    own = case.splits["error_sample"].source.data.images
    original = Path(own).read_bytes()
    table = pq.read_table(own)
    try:
        pq.write_table(table.filter(pc.not_equal(table["image_id"], FAILURE)), own)
        with pytest.raises(DataError, match=FAILURE):
            run(case, {"backbone": backbone, "candidates": 3})
    finally:
        Path(own).write_bytes(original)


def test_where_everything_is_refused_nothing_is_compared(case: CellCase, backbone: str):
    info = run(case, {"backbone": backbone, "candidates": N_CANDIDATES}, leak_distance=2)
    found = neighbors_of(case, info)
    assert found.num_rows == found["lpips"].null_count > 0
    assert info.n_picks == 0
