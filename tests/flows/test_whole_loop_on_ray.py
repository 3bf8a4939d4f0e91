import pytest

from dcd.config import RunnerConfig, load_config
from dcd.store import Store
from flows.debug_model import debug_model
from tests.case import N_SHARDS, write_case

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]


def test_the_whole_loop_runs_on_a_local_ray_cluster(tmp_path, prefect_home, monkeypatch):
    pytest.importorskip("prefect_ray", reason="the extra 'ray' is not installed")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    config = load_config(write_case(tmp_path, seeds=(0,)))
    on_ray = config.model_copy(update={"runner": RunnerConfig(kind="ray", max_workers=2)})
    info = debug_model(on_ray)
    store = Store(config.store)
    assert store.exists(f"runs/{info.run_id}/report.html")
    assert {row.method for row in info.rows} >= {"none", "selected"}
    shards = [key for key in store.keys_under("embeddings/colours") if key.endswith(".parquet")]
    assert len(shards) == N_SHARDS
