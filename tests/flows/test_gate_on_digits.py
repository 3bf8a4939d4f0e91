"""The gate on real images: MNIST digits, a pool with 40 % wrong labels."""

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from dcd.config import load_config
from dcd.demo.case import load_case, splits, write_demo
from dcd.gate.champions import current
from dcd.gate.decision import decide
from dcd.gate.record import read_record
from dcd.store import Store
from dcd.store.keys import run
from flows.debug_model import debug_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_the_whole_pool_is_refused_and_the_selection_promoted(tmp_path, prefect_home):
    config = load_config(write_demo(tmp_path)).model_copy(update={"seeds": (0,)})
    # Three times the demo's train: a model good enough to have something to lose.
    pq.write_table(splits(load_case("digits"), 0, 60), tmp_path / "splits" / "seed0.parquet")
    store = Store(config.store)
    # As most people would train on it: its labels taken for true.
    believing = config.model_copy(
        update={
            "name": "whole-pool",
            "compare": config.compare.model_copy(update={"baselines": ("none", "whole_pool")}),
            "training": config.training.model_copy(update={"loss": "cross_entropy", "l2": 1e-3}),
            "gate": config.gate.model_copy(update={"policy": "off"}),
        }
    )
    other = debug_model(believing)
    predictions = store.read_table(run(other.run_id, "predictions.parquet"))
    refused = decide(of(predictions, "none"), of(predictions, "whole_pool"))
    assert not refused.promoted
    assert refused.test.counts.difference < 0
    assert "Most is lost on" in " ".join(refused.reasons)

    compare = config.compare.model_copy(update={"baselines": ("none",)})
    # Such a model gains little from a pool with wrong labels: the general sample is filtered.
    selection = config.selection.model_copy(update={"general_min_trust": 0.3})
    info = debug_model(config.model_copy(update={"compare": compare, "selection": selection}))
    record = read_record(store, info.run_id)
    assert record is not None
    assert record.outcome == "passed", record.reasons
    champion = current(store)
    assert champion is not None
    assert champion.run_id == info.run_id
    assert store.exists(run(info.run_id, "card.md"))
    assert "Promoted" in store.read_bytes(run(info.run_id, "report.html")).decode()


def of(predictions: pa.Table, method: str) -> pa.Table:
    return predictions.filter(pc.equal(predictions["model"], method))
