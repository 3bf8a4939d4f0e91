"""On an object store a search reads the touched labels, and little more."""

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.index_bytes import touched_bytes
from dcd.index.build import build_index
from dcd.index.info import index_info
from dcd.index.read import read_directory
from dcd.index.search import READ_COLUMNS, in_label_neighbors
from dcd.store import Store
from tests.counting_proxy import counting_proxy
from tests.dcd.index.vector_pools import ENCODER, POOL, blocked_table, failures_table, put_shard

_DIM, _LABELS, _ROWS = 128, 24, 3000  # 768 KiB a label


@pytest.mark.s3
def test_at_most_one_and_a_half_times_the_bytes_of_the_touched_labels(
    swift_url, swift_server, monkeypatch
):
    rng = np.random.default_rng(0)
    store = Store(swift_url)
    names = [f"s{n}" for n in range(6)]
    for name in names:
        n = _LABELS * _ROWS // len(names)
        labels = [f"label-{i % _LABELS:02d}" for i in range(n)]
        ids = [f"{name}-{i:06d}" for i in range(n)]
        put_shard(store, name, ids, labels, rng.standard_normal((n, _DIM)))
    made = build_index(store, POOL, ENCODER, names, None)
    failing = ["label-03", "label-11", "label-19"]
    failures = failures_table(failing * 4, rng.standard_normal((12, _DIM)))
    directory = read_directory(store, made, pa.array(failing))
    touched = touched_bytes(store, directory, READ_COLUMNS)
    assert touched > 3 * _ROWS * 2 * _DIM
    with counting_proxy(swift_server.url) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        through = Store(swift_url)
        index = index_info(through, POOL, ENCODER, made.index_id)
        found = in_label_neighbors(through, index, failures, blocked_table({}), 50)
        n_received = proxy.n_received
    assert found.num_rows == 12 * 50
    print(f"{n_received:,} bytes received, touched labels {touched:,}: {n_received / touched:.2f}")
    assert touched < n_received < 1.5 * touched
