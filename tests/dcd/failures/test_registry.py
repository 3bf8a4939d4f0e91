"""The registry: what waits for a run, when it is announced again, its compact view."""

from datetime import timedelta

import pytest
from pydantic import ValidationError

from dcd.config import EmbedConfig, PoolConfig
from dcd.errors import ObjectNotFound
from dcd.failures import registry
from dcd.failures.intake import take_in_folder
from dcd.failures.registry import Pending, due, mark_covered, note_announced, pending, read_registry
from dcd.store import Store, keys, object_log
from tests.dcd.failures.failing_images import case_with_registry, inbox, write_failures

MINUTE = timedelta(minutes=1)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return case_with_registry(tmp_path_factory.mktemp("case"))


@pytest.fixture
def config(pristine, tmp_path):
    return pristine.model_copy(update={"store": str(tmp_path / "store")})


def arrive(config, seed: int) -> str:
    """One batch of three failures; its id."""
    write_failures(inbox(config), 1, seed)
    [batch] = take_in_folder(Store(config.store), config).batches
    return batch


def test_what_no_finished_run_covers_waits(config):
    store = Store(config.store)
    first, second = arrive(config, 1), arrive(config, 2)
    assert pending(store, "tiny", read_registry(store)) == Pending(
        tuple(sorted((first, second))), 6
    )
    mark_covered(store, "tiny", "tiny-1", [first])
    assert pending(store, "tiny", read_registry(store)) == Pending((second,), 3)
    mark_covered(store, "tiny", "tiny-2", [first, second])
    assert pending(store, "tiny", read_registry(store)) == Pending((), 0)


@pytest.mark.parametrize("end", ["", "/"])
def test_the_registry_alone_is_embedded_under_its_name(config, end):
    store = f"{config.store}{end}"
    source = registry.registry_source(store)
    pool = PoolConfig(name=source.id, **source.data.model_dump())
    assert EmbedConfig(store=store, pool=pool).pool.name == "failures"
    for images in (
        *("pool/*.tar", f"{config.store}/pool/*.tar", f"{config.store}/failures/inbox"),
        f"{config.store}/failures/batches-2/*.parquet",
    ):
        with pytest.raises(ValidationError, match="name of dcd's own image source"):
            EmbedConfig(store=store, pool=PoolConfig(name=source.id, images=images))


def test_a_batch_that_a_run_has_used_is_missed(config):
    store = Store(config.store)
    used, unused = arrive(config, 1), arrive(config, 2)
    mark_covered(store, "other", "other-1", [used])
    registry.check_batches(store)
    store.delete(keys.failure_batch(unused))
    registry.check_batches(store)
    store.delete(keys.failure_batch(used))
    with pytest.raises(ObjectNotFound, match=f"{used}.*other-1.*dcd store restore"):
        registry.check_batches(store)


def test_runs_of_another_name_cover_nothing(config):
    store = Store(config.store)
    batch = arrive(config, 1)
    mark_covered(store, "other", "other-1", [batch])
    assert pending(store, "tiny", read_registry(store)).batches == (batch,)


def test_waiting_failures_are_announced_again_but_ever_more_rarely(config, monkeypatch):
    store = Store(config.store)
    waiting = Pending(("b-1",), 3)
    assert due(store, "tiny", waiting, MINUTE)
    note_announced(store, "tiny", waiting)
    assert not due(store, "tiny", waiting, MINUTE)
    assert due(store, "tiny", waiting, timedelta(0))
    assert due(store, "tiny", Pending(("b-1", "b-2"), 5), MINUTE)
    for minutes, expected in [(1.1, True), (0.9, False)]:
        age(monkeypatch, minutes)
        assert due(store, "tiny", waiting, MINUTE) is expected
    note_announced(store, "tiny", waiting)
    age(monkeypatch, 0.9 + 1.5)
    assert not due(store, "tiny", waiting, MINUTE)
    age(monkeypatch, 0.9 + 2.5)
    assert due(store, "tiny", waiting, MINUTE)


def age(monkeypatch, minutes: float) -> None:
    """Let the registry's clock go ahead by so much."""
    monkeypatch.undo()
    real = registry.datetime

    class Later(real):
        @classmethod
        def now(cls, tz=None):
            return real.now(tz) + timedelta(minutes=minutes)

    monkeypatch.setattr(registry, "datetime", Later)


def test_nothing_waiting_is_never_due(config):
    assert not due(Store(config.store), "tiny", Pending((), 0), timedelta(0))


def test_the_view_says_what_the_objects_say(config, monkeypatch):
    monkeypatch.setattr(object_log, "_MAX_LOOSE_OBJECTS", 2)
    store = Store(config.store)
    for seed in range(4):
        arrive(config, seed)
    whole = read_registry(store)
    assert store.exists(keys.FAILURES_VIEW)
    assert read_registry(store).failures.equals(whole.failures)
    store.delete(keys.FAILURES_VIEW)
    store.delete(keys.RECEIPTS_VIEW)
    assert read_registry(store).failures.equals(whole.failures)
    assert read_registry(store).seen() == whole.seen()
    arrive(config, 9)
    assert read_registry(store).failures.num_rows == whole.failures.num_rows + 3


def test_a_deleted_batch_is_gone_from_the_view_too(config, monkeypatch):
    monkeypatch.setattr(object_log, "_MAX_LOOSE_OBJECTS", 0)
    store = Store(config.store)
    first, second = arrive(config, 1), arrive(config, 2)
    read_registry(store)
    store.delete(keys.failure_batch(first))
    assert set(read_registry(store).failures["batch"].to_pylist()) == {second}
