from pathlib import Path

import pytest
from typer.testing import CliRunner

from dcd.gate.champions import current
from dcd.gate.record import GateRecord
from dcd.store import Store, keys
from flows.cli.app import app
from tests.dcd.gate.model_runs import promoted, write_run


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.fixture
def dcd(store: Store):
    return lambda *arguments: CliRunner().invoke(app, [*arguments, "--store", store.url])


def judged(store: Store, run_id: str, **record: object) -> str:
    """A finished run with this gate.json."""
    write_run(store, run_id)
    data = GateRecord.model_validate({"seed": 0, **record}).model_dump_json().encode()
    store.write_bytes(keys.run(run_id, "gate.json"), data)
    return run_id


def test_what_the_gate_let_pass_is_promoted_and_listed(dcd, store: Store):
    assert "no champion yet" in dcd("champions").output
    judged(store, "good", outcome="passed", reasons=("It gained 8 points.",))
    result = dcd("promote", "good")
    assert result.exit_code == 0, result.output
    assert "good (seed 0)" in result.output
    listed = dcd("champions").output
    assert "good" in listed
    assert "gained 8" in listed
    assert dcd("promote", "good").exit_code == 0


def test_what_the_gate_refused_needs_force(dcd, store: Store):
    judged(store, "bad", outcome="refused", reasons=("Test lost 4 points.",))
    result = dcd("promote", "bad")
    assert result.exit_code == 1
    assert "Test lost 4 points" in result.output
    assert "--force" in result.output
    assert current(store) is None
    assert dcd("promote", "bad", "--force").exit_code == 0
    now = current(store)
    assert now is not None
    assert now.reasons[0].startswith("By force: the gate refused it")


def test_a_run_that_was_not_judged_needs_force(dcd, store: Store):
    write_run(store, "plain")
    assert "has not judged" in dcd("promote", "plain").output
    assert current(store) is None


def test_a_pass_against_an_old_champion_counts_no_more(dcd, store: Store):
    judged(store, "late", outcome="passed", reasons=("Better.",))
    promoted(store, write_run(store, "other"))
    result = dcd("promote", "late")
    assert result.exit_code == 1
    assert "another champion" in result.output


def test_unknown_runs_and_seeds_are_named(dcd, store: Store):
    assert "no saved model" in dcd("promote", "nowhere").output
    judged(store, "good", outcome="passed", reasons=())
    assert "models of the seeds [0], none of 7" in dcd("promote", "good", "--seed", "7").output


def test_rollback_returns_to_the_champion_before(dcd, store: Store):
    for name in ("first", "second"):
        promoted(store, write_run(store, name))
    assert "first (seed 0)" in dcd("rollback").output
    result = dcd("rollback")
    assert result.exit_code == 1
    assert "first champion" in result.output
