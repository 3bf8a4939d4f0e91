from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import yaml
from prefect.client.schemas.objects import FlowRun
from prefect.states import Crashed

from flows.deployment.deploy import PREFECT_FILE
from flows.deployment.sweep import RESUMED_FLOWS, _is_forgotten

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def crashed(ago: timedelta, deployed: bool = True) -> FlowRun:
    state = Crashed(timestamp=NOW - ago)
    return FlowRun(flow_id=uuid4(), state=state, deployment_id=uuid4() if deployed else None)


@pytest.mark.parametrize(
    ("ago", "forgotten"),
    [
        (timedelta(seconds=100), False),  # the automation may still be about to resume it
        (timedelta(minutes=4), True),
        (timedelta(hours=20), True),
        (timedelta(days=2), False),  # nobody waits for it any more
    ],
)
def test_a_crashed_run_is_forgotten_after_the_automations_turn(ago: timedelta, forgotten: bool):
    assert _is_forgotten(crashed(ago), NOW) == forgotten


def test_runs_of_no_deployment_are_their_users_business():
    assert not _is_forgotten(crashed(timedelta(minutes=4), deployed=False), NOW)


def test_the_sweep_resumes_the_flows_that_the_automation_resumes():
    automations = yaml.safe_load(
        PREFECT_FILE.with_name("automations.yaml").read_text(encoding="utf-8")
    )
    (resuming,) = [a for a in automations["automations"] if a["name"] == "dcd: resume crashed runs"]
    assert resuming["trigger"]["match_related"]["prefect.resource.name"] == RESUMED_FLOWS
