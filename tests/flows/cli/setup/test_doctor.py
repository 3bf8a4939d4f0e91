"""`dcd doctor` on this machine, and on installations that something is wrong with."""

from importlib.metadata import PackageNotFoundError

import pytest
from typer.testing import CliRunner

from dcd.setup import packages
from dcd.setup.packages import package_findings
from flows.cli.app import app


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    monkeypatch.delenv("DCD_STORE", raising=False)


def doctor(*arguments):
    return CliRunner().invoke(app, ["doctor", *arguments])


def test_this_installation_is_in_order(tmp_path):
    done = doctor("--store", str(tmp_path / "store"))
    assert done.exit_code == 0, done.output
    assert "fault" not in done.output
    assert "can be written, listed, read and deleted" in done.output
    assert "clock: is the store's" in done.output
    assert not [path for path in (tmp_path / "store").rglob("*") if path.parent.name == ".probe"]


def test_a_server_that_does_not_answer_is_a_fault_with_its_mend(monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:1/api")
    done = doctor()
    assert done.exit_code == 1
    assert "http://127.0.0.1:1/api does not answer" in done.output
    assert "dcd up" in done.output


def test_a_store_that_cannot_be_used_is_a_fault(tmp_path):
    (tmp_path / "file").write_text("no folder")
    done = doctor("--store", str(tmp_path / "file"))
    assert done.exit_code == 1
    assert str(tmp_path / "file") in done.output
    assert "Traceback" not in done.output


def test_a_package_of_the_wrong_version_is_named_with_the_line_that_mends_it(monkeypatch):
    real = packages.version
    monkeypatch.setattr(
        packages, "version", lambda name: "0.165.0" if name == "fastapi" else real(name)
    )
    (fault,) = [found for found in package_findings() if found.state == "fault"]
    assert fault.what == "fastapi"
    assert fault.told.startswith("0.165.0 found, ")
    assert fault.mend is not None
    assert fault.mend.startswith("pip install 'fastapi")


def test_what_is_not_installed_is_told_of_the_base_and_of_extras(monkeypatch):
    real = packages.version

    def without(name):
        if name in ("faiss-cpu", "mlxtend"):
            raise PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(packages, "version", without)
    found = {each.what: each for each in package_findings()}
    assert found["faiss-cpu"].state == "fault"
    assert found["extra demo"].state == "note"
    assert found["extra demo"].mend == "pip install 'data-centric-debugging[demo]'"
    assert not {"extra dev", "extra bench"} & found.keys()
