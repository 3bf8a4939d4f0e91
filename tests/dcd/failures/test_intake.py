"""What becomes of files in the inbox: checks, crashes, races."""

import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dcd.config import RunConfig
from dcd.errors import DataError
from dcd.failures import intake, registry
from dcd.failures.intake import Intake, take_in_folder
from dcd.failures.known_content import known_content
from dcd.failures.registry import read_registry
from dcd.store import Store, keys
from tests.dcd.failures.failing_images import case_with_registry, inbox, write_failures


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> RunConfig:
    return case_with_registry(tmp_path_factory.mktemp("case"))


@pytest.fixture
def config(pristine, tmp_path) -> RunConfig:
    """The case with a store of its own."""
    return pristine.model_copy(update={"store": str(tmp_path / "store")})


def registered(store: Store) -> list[tuple[str, str]]:
    rows = read_registry(store).failures.to_pylist()
    return sorted((Path(row["uri"]).name, row["label"]) for row in rows)


def reasons(store: Store) -> dict[str, str]:
    return {row["image_id"]: row["reason"] for row in read_registry(store).rejects().to_pylist()}


def test_good_failures_are_registered_and_stay_where_they_are(config):
    paths = write_failures(inbox(config), 2, seed=1)
    store = Store(config.store)
    assert take_in_folder(store, config) == Intake(
        batches=tuple(read_registry(store).failures["batch"].unique().to_pylist()),
        n_files=6,
        n_new=6,
        n_bad=0,
    )
    assert registered(store) == sorted((path.name, path.parent.name) for path in paths)
    assert all(path.exists() for path in paths)


def test_a_second_look_finds_nothing_to_do(config):
    write_failures(inbox(config), 1, seed=1)
    store = Store(config.store)
    take_in_folder(store, config)
    before = store.published_at("failures")
    assert take_in_folder(store, config) == Intake((), 0, 0, 0)
    assert store.published_at("failures") == before


def test_an_empty_store_has_nothing_to_look_through(config):
    assert take_in_folder(Store(config.store), config) == Intake((), 0, 0, 0)


def test_every_refusal_has_its_reason(config, pristine):
    store = Store(config.store)
    folder = inbox(config)
    [good, *_] = write_failures(folder, 1, seed=1)
    (folder / "red" / "text.jpg").write_bytes(b"<html>no picture</html>")
    (folder / "red" / "cut.png").write_bytes(good.read_bytes()[:200])
    (folder / "gren").mkdir()
    shutil.copy(good, folder / "gren" / "typo.png")
    shutil.copy(good, folder / "loose.png")
    shutil.copy(good, folder / "red" / "z-again.png")
    own = pq.read_table(Path(pristine.store).parent / "own.parquet").to_pylist()
    of = {row["image_id"]: row["image"] for row in own}
    for role in ("train", "test", "debug_val", "debug_heldout", "error_sample"):
        (folder / "red" / f"{role}.png").write_bytes(of[f"{role}-red-0"])
    found = take_in_folder(store, config)
    assert (found.n_files, found.n_new, found.n_bad) == (13, 3, 10)
    told = reasons(store)
    assert "looks like HTML" in told["red/text.jpg"]
    assert "cannot be decoded" in told["red/cut.png"]
    assert "did you mean 'green'?" in told["gren/typo.png"]
    assert "no label" in told["loose.png"]
    assert told["red/z-again.png"] == f"the same picture as {good}"
    for role in ("train", "test", "debug_val", "debug_heldout", "error_sample"):
        assert told[f"red/{role}.png"] == f"is in {role} already"


def test_a_file_that_is_mended_is_looked_at_again(config):
    store = Store(config.store)
    [good, *_] = write_failures(inbox(config), 1, seed=1)
    whole = good.read_bytes()
    good.write_bytes(whole[:100])
    take_in_folder(store, config)
    assert "red/1-0.png" in reasons(store)
    good.write_bytes(whole)
    assert take_in_folder(store, config).n_new == 1
    assert reasons(store) == {}
    assert len(registered(store)) == 3


def test_a_parquet_file_gives_its_rows(config, tmp_path):
    images = [path.read_bytes() for path in write_failures(tmp_path / "new", 1, seed=3)]
    rows = {"image": [*images, b"broken", images[0]], "label": ["red", "green", "blue", "red", "x"]}
    inbox(config).mkdir(parents=True)
    pq.write_table(pa.table(rows), inbox(config) / "drop.parquet")
    (inbox(config) / "damaged.parquet").write_bytes(b"PAR1 nothing PAR1")
    pq.write_table(pa.table({"a": [1]}), inbox(config) / "other.parquet")
    store = Store(config.store)
    found = take_in_folder(store, config)
    assert (found.n_files, found.n_new, found.n_bad) == (3, 3, 4)
    told = " ".join(reasons(store).values())
    assert "not a readable Parquet file" in told
    assert "no image column" in told


def test_a_folder_anywhere_is_copied_in(config, tmp_path):
    store = Store(config.store)
    write_failures(tmp_path / "mine", 1, seed=4)
    assert take_in_folder(store, config, str(tmp_path / "mine")).n_new == 3
    shutil.rmtree(tmp_path / "mine")
    batch = store.read_table(keys.failure_batch(registry.read_registry(store).failures["batch"][0]))
    assert all(data.startswith(b"\x89PNG") for data in batch["image"].to_pylist())


def test_many_failures_become_several_batches(config, monkeypatch):
    monkeypatch.setattr(intake, "_MAX_BATCH_IMAGES", 4)
    paths = write_failures(inbox(config), 3, seed=5)
    found = take_in_folder(Store(config.store), config)
    assert len(found.batches) == 3
    assert len(registered(Store(config.store))) == len(paths)


class _Crash(BaseException):
    """Nothing in the package may catch it: the process is gone."""


class _CrashingStore(Store):
    """Dies at its nth write, before or after the object is there."""

    def __init__(self, url: str, at: int, after: bool):
        super().__init__(url)
        self.left, self.after = at, after

    def write_bytes(self, key: str, data: bytes) -> None:
        self.left -= 1
        if self.left == 0 and not self.after:
            raise _Crash
        super().write_bytes(key, data)
        if self.left == 0:
            raise _Crash


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_write_loses_nothing_and_registers_nothing_twice(
    config, monkeypatch, after: bool
):
    monkeypatch.setattr(intake, "_MAX_BATCH_IMAGES", 4)
    paths = write_failures(inbox(config), 3, seed=6)
    (inbox(config) / "red" / "bad.png").write_bytes(b"bad")
    expected = sorted((path.name, path.parent.name) for path in paths)
    n_crashes, at, crashed = 0, 1, True
    while crashed:  # each look dies one write later, on what earlier ones have left
        shutil.rmtree(Path(config.store) / "failures" / "batches", ignore_errors=True)
        shutil.rmtree(Path(config.store) / "failures" / "receipts", ignore_errors=True)
        crashed = _dies(_CrashingStore(config.store, at, after), config)
        n_crashes += crashed
        take_in_folder(Store(config.store), config)
        assert registered(Store(config.store)) == expected
        assert list(reasons(Store(config.store))) == ["red/bad.png"]
        assert take_in_folder(Store(config.store), config).n_files == 0
        at += 1
    assert n_crashes >= 4  # three batches and the receipt


def _dies(store: Store, config: RunConfig) -> bool:
    try:
        take_in_folder(store, config)
    except _Crash:
        return True
    return False


@pytest.mark.parametrize("n_watchers", [2, 5])
def test_watchers_that_race_register_everything_once(config, n_watchers: int):
    store = Store(config.store)
    paths = write_failures(inbox(config), 4, seed=7)
    (inbox(config) / "red" / "bad.png").write_bytes(b"bad")
    _at_once(n_watchers, lambda _: take_in_folder(Store(config.store), config))
    assert registered(store) == sorted((path.name, path.parent.name) for path in paths)
    assert list(reasons(store)) == ["red/bad.png"]


def test_watchers_that_see_different_files_register_a_picture_once(config):
    store = Store(config.store)
    paths = write_failures(inbox(config), 3, seed=8)
    empty = read_registry(store)
    every = intake.find_files(store.uri(keys.FAILURES_INBOX), empty)
    known = known_content(store, config)
    seen = [every[:6], every]
    _at_once(2, lambda n: intake.take_in(store, seen[n], empty, known))
    batches = store.keys_under(keys.FAILURE_BATCHES)
    assert sum(store.read_table(key, ["image_id"]).num_rows for key in batches) == 6 + 9
    assert registered(store) == sorted((path.name, path.parent.name) for path in paths)
    assert reasons(store) == {}


def _at_once(n: int, work: Callable[[int], object]) -> None:
    barrier = threading.Barrier(n)

    def start(number: int) -> object:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(n) as threads:
        assert len(list(threads.map(start, range(n)))) == n


def test_it_works_on_s3(pristine, s3_url, tmp_path):
    config = pristine.model_copy(update={"store": s3_url})
    store = Store(s3_url)
    for path in write_failures(tmp_path, 1, seed=9):
        store.write_bytes(
            f"{keys.FAILURES_INBOX}/{path.parent.name}/{path.name}", path.read_bytes()
        )
    store.write_bytes(f"{keys.FAILURES_INBOX}/red/bad.png", b"bad")
    found = take_in_folder(store, config)
    assert (found.n_new, found.n_bad) == (3, 1)
    assert take_in_folder(store, config).n_files == 0
    [batch] = found.batches
    assert registry.pending(store, config.name, read_registry(store)).batches == (batch,)


def test_the_true_label_goes_before_the_weak_one(config):
    [one, other] = (
        path.read_bytes() for path in write_failures(inbox(config) / ".x", 1, seed=1)[:2]
    )
    rows = {"image": [one, other], "weak_label": ["green", "green"], "label": ["red", "red"]}
    pq.write_table(pa.table(rows), inbox(config) / "f.pq")
    store = Store(config.store)
    take_in_folder(store, config)
    assert registered(store) == [("f.pq", "red")] * 2


def test_a_picture_that_stands_twice_in_one_file_is_told(config):
    one = write_failures(inbox(config) / ".x", 1, seed=1)[0].read_bytes()
    pq.write_table(
        pa.table({"image": [one, one], "label": ["red", "green"]}), inbox(config) / "f.parquet"
    )
    store = Store(config.store)
    assert take_in_folder(store, config).n_bad == 1
    assert registered(store) == [("f.parquet", "red")]
    [reason] = reasons(store).values()
    assert "the same picture as" in reason
    assert reason.endswith("there as 'red'")


def test_rows_without_label_are_told_as_rows(config):
    one = write_failures(inbox(config) / ".x", 1, seed=1)[0].read_bytes()
    pq.write_table(pa.table({"image": [one]}), inbox(config) / "f.parquet")
    store = Store(config.store)
    take_in_folder(store, config)
    assert list(reasons(store).values()) == ["no label in its row; fill the column 'label'"]


def test_one_file_that_is_not_read_is_an_error(config, tmp_path):
    (tmp_path / "f.tar").write_bytes(bytes(1024))
    with pytest.raises(DataError, match=r"f\.tar: is neither a Parquet file nor a folder"):
        take_in_folder(Store(config.store), config, str(tmp_path / "f.tar"))
