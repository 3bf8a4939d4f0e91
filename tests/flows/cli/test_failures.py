from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli.app import app
from tests.case import write_case


def test_an_empty_list_says_which_store_was_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    config = write_case(tmp_path / "case")
    document = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**document, "store": "store"}))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["failures", "list", "--config", str(config)])
    assert result.exit_code == 0, result.output
    assert f"No failures are registered in the store {tmp_path / 'store'}" in result.stderr
