import base64
import xml.etree.ElementTree as ET

import httpx
import pytest
from prefect import flow, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId

from dcd.runs.run import RunInfo
from tasks import artifacts
from tests.dcd.report.run_records import record, rows_of


@pytest.fixture
def info(tmp_path) -> RunInfo:
    report = tmp_path / "runs" / "tiny-1" / "report.html"
    return RunInfo("tiny-1", str(report), ("It got *better*.",), rows_of(record()), ("Refused.",))


def test_a_run_publishes_metrics_figure_and_report(info, prefect_home):
    @flow
    def publish():
        from prefect import runtime

        artifacts.publish_run("Tiny_Case", info)
        return runtime.flow_run.id

    run_id = publish()
    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[run_id]))
        found = {a.key: a for a in client.read_artifacts(artifact_filter=wanted)}
    assert set(found) == {"tiny-case-metrics", "tiny-case-trade-off", "tiny-case-report"}
    assert found["tiny-case-metrics"].type == "markdown"
    assert "file://" in str(found["tiny-case-report"].data)


def test_the_figure_is_one_svg_document_with_colours(info):
    head, data = artifacts.figure_uri(info.rows).split(",", 1)
    assert head == "data:image/svg+xml;base64"
    text = base64.b64decode(data).decode()
    assert ET.fromstring(text).tag == "{http://www.w3.org/2000/svg}svg"
    assert "var(" not in text


def test_markdown_shows_all_methods_and_runs_nothing(info):
    text = artifacts.metrics_markdown(info)
    assert all(artifacts.escaped(row.method) in text for row in info.rows)
    assert "It got \\*better\\*." in text
    assert artifacts.escaped("<img onerror=x>|`") == "&lt;img onerror=x>\\|\\`"


def test_the_link_leads_to_the_browsed_store_where_one_is_named(info, monkeypatch):
    monkeypatch.setenv("DCD_BROWSE_URL", "http://127.0.0.1:8080/")
    assert artifacts.report_link(info) == "http://127.0.0.1:8080/runs/tiny-1/report.html"


def test_a_server_that_is_away_costs_the_artifact_only(caplog):
    def fails():
        raise httpx.ConnectError("no server")

    artifacts.attempt(fails)
    assert "no server" in caplog.text
    with pytest.raises(ValueError, match="a bug"):
        artifacts.attempt(lambda: int("a bug"))
