import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from dcd.errors import ChampionChanged, DataError, ObjectUnreadable
from dcd.gate.champions import current, history, mend, model_seeds, promote, rollback
from dcd.store import Store, keys
from tests.dcd.gate.model_runs import CLASSES, promoted, whole_champion, write_run


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


def test_there_is_no_champion_at_first(store: Store):
    assert current(store) is None
    assert history(store) == ()
    with pytest.raises(DataError, match="no champion to roll back"):
        rollback(store)


def test_promotion_points_at_the_model_and_the_card(store: Store):
    made = promoted(store, write_run(store, "first"))
    assert current(store) == made
    assert (made.run_id, made.seed, made.classes) == ("first", 0, CLASSES)
    assert store.exists(f"{made.model}/model.safetensors")
    assert store.exists(made.card)


def test_promoting_the_champion_again_changes_nothing(store: Store):
    made = promoted(store, write_run(store, "first"))
    assert promoted(store, "first") == made
    assert len(history(store)) == 1


def test_rollback_goes_back_one_champion_at_a_time(store: Store):
    for name in ("a", "b", "c"):
        promoted(store, write_run(store, name))
    assert rollback(store).run_id == "b"
    assert rollback(store).run_id == "a"
    with pytest.raises(DataError, match="first champion"):
        rollback(store)
    assert whole_champion(store) == current(store)


def test_after_a_rollback_promotion_goes_on_from_there(store: Store):
    for name in ("a", "b"):
        promoted(store, write_run(store, name))
    rollback(store)
    promoted(store, write_run(store, "c"))
    assert rollback(store).run_id == "a"
    rows = history(store)
    assert [row.champion.run_id for row in rows] == ["a", "c", "a", "b", "a"]
    assert [row.champion.action for row in rows[:2]] == ["rollback", "promotion"]
    assert [row.place for row in rows] == ["now", "before", "before", "before", "before"]


def test_a_champion_that_changed_meanwhile_stays(store: Store):
    first = promoted(store, write_run(store, "first"))
    write_run(store, "late")
    second = promoted(store, write_run(store, "second"))
    with pytest.raises(ChampionChanged, match=first.id):
        promote(store, "late", 0, (), expected=first.id)
    with pytest.raises(ChampionChanged, match="expected no champion"):
        promote(store, "late", 0, (), expected=None)
    assert current(store) == second


@pytest.mark.parametrize(
    "missing", ["model/seed0/model.safetensors", "model/seed0/config.json", "card.json"]
)
def test_a_run_without_all_its_files_is_not_promoted(store: Store, missing: str):
    before = promoted(store, write_run(store, "good"))
    write_run(store, "bad")
    store.delete(keys.run("bad", missing))
    with pytest.raises(DataError, match=missing):
        promoted(store, "bad")
    assert current(store) == before


def test_no_rollback_to_a_model_that_is_gone(store: Store):
    promoted(store, write_run(store, "old"))
    now = promoted(store, write_run(store, "new"))
    store.delete(keys.run("old", "model/seed0/model.safetensors"))
    with pytest.raises(DataError, match=r"old/model/seed0/model\.safetensors"):
        rollback(store)
    assert current(store) == now


def test_a_broken_champion_is_named_not_guessed(store: Store):
    store.write_bytes(keys.CHAMPION, b'{"run_id": "x"}')
    with pytest.raises(ObjectUnreadable, match=r"champion\.json"):
        current(store)


def test_only_whole_models_count(store: Store):
    write_run(store, "run", seed=0)
    write_run(store, "run", seed=11)
    write_run(store, "run", seed=2)
    store.delete(keys.run("run", "model/seed2/config.json"))
    assert model_seeds(store, "run") == [0, 11]
    assert model_seeds(store, "ru") == []


def test_a_crash_at_any_write_leaves_the_old_champion_or_the_new(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    """Before and after each of the objects that a promotion with its run writes."""
    written = Store.write_bytes
    outcomes = []
    for n_writes in range(11):
        name = f"run-{n_writes}"
        before = current(store)
        left = n_writes

        def crashing(self: Store, key: str, data: bytes) -> None:
            nonlocal left
            if left == 0:
                raise KeyboardInterrupt
            left -= 1
            written(self, key, data)
            if left == 0:
                raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(Store, "write_bytes", crashing)
            with suppress(KeyboardInterrupt):
                promoted(store, write_run(store, name))
        after = whole_champion(store)
        assert after == before or (after is not None and after.run_id == name)
        outcomes.append(after != before)
    assert outcomes == [False] * 5 + [True] * 6
    assert [row.place for row in history(store)].count("never") == 1


def test_promotions_at_the_same_moment_leave_one_whole_champion(store: Store):
    names = [write_run(store, f"run-{n}") for n in range(12)]

    def attempt(name: str) -> bool:
        try:
            promoted(store, name)
        except ChampionChanged:
            return False
        return True

    with ThreadPoolExecutor(12) as threads:
        succeeded = list(threads.map(attempt, names))
    now = whole_champion(store)
    assert now is not None
    assert now.run_id in [name for name, done in zip(names, succeeded, strict=True) if done]
    rows = history(store)
    assert len(rows) == sum(succeeded)
    assert [row.place for row in rows].count("now") == 1
    while now.previous is not None:
        now = rollback(store)
    assert whole_champion(store) == now


def test_a_look_before_the_first_promotion_ends_after_the_second(
    store: Store, monkeypatch: pytest.MonkeyPatch
):
    """The look sees no champion, then the note of one that took over: it is not lost but new."""
    exists = Store.exists

    def exists_and_is_overtaken(place: Store, key: str) -> bool:
        found = exists(place, key)
        with monkeypatch.context() as patched:
            patched.setattr(Store, "exists", exists)
            for name in ("first", "second"):
                promoted(store, write_run(store, name))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(Store, "exists", exists_and_is_overtaken)
        now = current(store)
    assert now is not None
    assert now.run_id == "second"


def kill_while_promoting(url: str, n_trials: int, within_s: float = 0.1) -> int:
    """SIGKILL a process that promotes, at random moments; returns how many promotions stood."""
    rng = random.Random(0)
    store = Store(url)
    for _ in range(n_trials):
        before = len(store.keys_under(keys.CHAMPION_CHANGES))
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.dcd.gate.model_runs", url],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "promoting\n"
            time.sleep(rng.uniform(0, within_s))
        finally:
            process.kill()
            process.communicate()
        now = whole_champion(store)
        assert now is not None
        rows = history(store)
        assert len(rows) > before
        # Only the change that the kill met may be noted without being in force.
        assert [row.place for row in rows].count("never") <= n_trials
        assert rows[0].champion == now or rows[1].champion == now
    return len(history(store))


def test_sigkill_never_leaves_a_champion_that_points_at_nothing(store: Store):
    assert kill_while_promoting(store.url, n_trials=2) > 2
    assert rollback(store) == whole_champion(store)


@pytest.mark.slow
def test_sigkill_many_times(store: Store):
    assert kill_while_promoting(store.url, n_trials=40) > 40


@pytest.mark.s3
def test_sigkill_on_an_object_store(swift_url: str):
    assert kill_while_promoting(swift_url, n_trials=8, within_s=0.5) >= 8


@pytest.mark.parametrize("damaged", [b"{", b"", None])
def test_a_damaged_or_lost_champion_is_refused_until_somebody_mends_it(store: Store, damaged):
    promoted(store, write_run(store, "a"))
    promoted(store, write_run(store, "b"))
    if damaged is None:
        store.delete(keys.CHAMPION)
    else:
        store.write_raw(keys.CHAMPION, damaged)
    with pytest.raises(ObjectUnreadable, match=r"champion\.json.*b, seed 0.*dcd champions --mend"):
        current(store)
    assert mend(store) == whole_champion(store)
    assert rollback(store).run_id == "a"


def test_a_damaged_model_is_not_promoted(store: Store):
    before = promoted(store, write_run(store, "good"))
    write_run(store, "bad")
    key = keys.run("bad", "model/seed0/model.safetensors")
    store.write_raw(key, store.read_raw(key)[:-1])
    with pytest.raises(ObjectUnreadable, match=r"bad/model/seed0/model\.safetensors"):
        promoted(store, "bad")
    assert current(store) == before
