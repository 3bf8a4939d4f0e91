"""A run whose disk fills up at any stage: one clear error, then the same result after room came."""

import logging
import shutil
import subprocess
import sys

import pytest

from dcd.config import RunConfig, load_config
from dcd.errors import StoreError
from dcd.runs import loop
from dcd.store import Store
from dcd.store.verify import verify
from tests.case import write_case
from tests.small_disk import fill, litter, remount, small_disk
from tests.test_healing import VIEWS, forget, views

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
_PAGE = 4096


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> tuple[RunConfig, str]:
    """The tiny case, run undisturbed, and the run's id."""
    folder = tmp_path_factory.mktemp("case")
    config = load_config(write_case(folder, seeds=(0,), compare={"baselines": ["random"]}))
    return config, loop.run(config).run_id


def test_a_disk_that_fills_up_at_every_stage(whole, tmp_path):
    """One size for each folder of the store: the disk is full when its first object comes."""
    config, run_id = whole
    undisturbed = Store(config.store)
    expected = views(undisturbed, run_id)
    told = []
    for folder, n_bytes in sizes(undisturbed):
        with small_disk(tmp_path / folder, f"size={n_bytes}") as disk:
            here = config.model_copy(update={"store": str(disk / "store")})
            forget()
            with pytest.raises(StoreError, match=r"no space is left on the disk.*make room") as err:
                loop.run(here)
            told.append(f"{n_bytes:>9,} bytes: {err.value}")
            store = Store(here.store)
            assert not litter(disk)
            assert not [one for one in verify(store, deep=True) if one.fault]
            remount(disk, "size=64m")
            forget()
            found = views(store, loop.run(here).run_id)
            assert all(found[name].equals(expected[name]) for name in VIEWS)
    logging.getLogger(__name__).info("%s", "\n".join(told))
    assert len(told) > 8


def sizes(store: Store) -> list[tuple[str, int]]:
    """By folder of the store, in the order of writing: the bytes of all before its first object."""
    found: dict[str, int] = {}
    n_bytes = 0
    for item in sorted(store.objects_under(), key=lambda item: item.written):
        found.setdefault(item.key.partition("/")[0], max(_PAGE, n_bytes))
        n_bytes += -(-item.n_bytes // _PAGE) * _PAGE
    return list(found.items())


def test_a_store_that_is_taken_away_in_mid_run(whole, tmp_path, monkeypatch):
    """What was derived so far is made again in the same run."""
    config, run_id = whole
    here = config.model_copy(update={"store": str(tmp_path / "store")})
    gather, taken = loop.gathered, []

    def taken_away(*arguments):
        if not taken:
            taken.append(True)
            shutil.rmtree(here.store)
        return gather(*arguments)

    monkeypatch.setattr(loop, "gathered", taken_away)
    forget()
    found = views(Store(here.store), loop.run(here).run_id)
    assert taken
    expected = views(Store(config.store), run_id)
    assert all(found[name].equals(expected[name]) for name in VIEWS)


@pytest.mark.parametrize(
    ("variable", "said"),
    [("PREFECT_HOME", "on the disk of Prefect's home"), ("TMPDIR", "on the disk of temporary")],
)
def test_other_disks_that_are_full(whole, tmp_path, monkeypatch, variable, said):
    """That of Prefect's database, and that of temporary files: one error, no trace."""
    config, _ = whole
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "home"))
    with small_disk(tmp_path / "disk", "size=64k") as disk:
        monkeypatch.setenv(variable, str(disk))
        fill(disk)
        path = tmp_path / "config.yaml"
        path.write_text(
            config.model_copy(update={"store": str(tmp_path / "store")}).model_dump_json()
        )
        ended = subprocess.run(
            [sys.executable, "-m", "flows", "run", str(path)],
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
    assert ended.returncode == 1
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
