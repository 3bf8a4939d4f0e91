import json

import pytest
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from dcd.cells.cell import CellInfo
from dcd.embeddings.batches import Batch
from dcd.embeddings.embed import ShardOutcome, ShardStats
from dcd.embeddings.status import FailedShard
from dcd.store import Store
from tasks import reuse
from tasks.result_keys import ResultKey

CELL = CellInfo("id", "selected", 0, 6, reused=False)
BATCH = Batch((ShardOutcome(ShardStats("s0", 3, 2, 1), False),), (FailedShard("s1", "why"),))
PATH = "results/train-and-evaluate/selected-seed0/digest"


def run(store, stands=True, path=PATH):
    """A flow run of one kept task: its state's name, its result and how often it worked."""
    worked = []

    @task(cache_policy=NO_CACHE)
    def work():
        worked.append(1)
        return CELL

    @flow
    def once():
        future = reuse.kept(work, store, ResultKey(path, stands)).submit()
        future.wait()
        return future.state.name, reuse.result_of(future)

    return *once(), len(worked)


def test_a_result_is_reused_and_says_so(tmp_path, prefect_home):
    store = str(tmp_path)
    assert run(store) == ("Completed", CELL, 1)
    name, found, worked = run(store)
    assert (name, found.reused, worked) == ("Cached", True, 0)
    document = json.loads(Store(store).read_bytes(PATH))
    assert json.loads(document["result"])["record"] == "CellInfo"


def test_missing_outputs_are_made_again_whatever_is_kept(tmp_path, prefect_home):
    run(str(tmp_path))
    assert run(str(tmp_path), stands=False) == ("Completed", CELL, 1)


def test_another_key_is_another_result(tmp_path, prefect_home):
    run(str(tmp_path))
    assert run(str(tmp_path), path=PATH + "x")[0] == "Completed"


@pytest.mark.parametrize(
    "planted",
    [
        b"",
        b"{",
        b"[]",
        json.dumps({"metadata": {"serializer": {"type": "pickle"}}, "result": "gASVAAA="}).encode(),
        json.dumps({"metadata": {"serializer": {"type": "json", "jsonlib": "os"}}}).encode(),
    ],
)
def test_a_planted_object_is_never_read_by_prefect(tmp_path, prefect_home, planted):
    store = Store(str(tmp_path))
    store.write_bytes(PATH, planted)
    assert not reuse.is_ours(store, PATH)
    assert run(str(tmp_path)) == ("Completed", CELL, 1)
    assert run(str(tmp_path))[0] == "Cached"


@pytest.mark.parametrize("record", [CELL, BATCH])
def test_records_survive_json(record):
    document = json.dumps(record, default=reuse.encode)
    assert json.loads(document, object_hook=reuse.decode) == record


def test_only_known_records_are_written_and_made():
    with pytest.raises(TypeError, match="ValueError"):
        json.dumps(ValueError("x"), default=reuse.encode)
    strange = {"record": "os.system", "__class__": "subprocess.Popen", "command": "true"}
    assert reuse.decode(strange) == strange
