#!/usr/bin/env bash
# prefect 3.8.8: saving an unchanged deployment just before its cron time loses that run.
#
# Seen: a deployment of `* * * * *` is posted again, as it is, half a second before the minute. The
# server removes its planned runs, plans again at its next look (every 5 s) from then on, and the
# run of that minute is never made: no state, no warning. The minutes around it are all there.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    prefect==3.8.8 fastapi==0.150.0 starlette==1.10.0 sqlalchemy==2.0.58
export PREFECT_HOME=$folder/home PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1
"$folder/venv/bin/python" - <<'PYTHON'
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import httpx
import prefect

assert prefect.__version__ == "3.8.8", prefect.__version__
PORT, TRIES = 42117, 4
api = httpx.Client(base_url=f"http://127.0.0.1:{PORT}/api", timeout=60)
command = (sys.executable, "-m", "prefect", "server", "start", "--port", str(PORT))
server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def planned(minute):
    found = api.post("/flow_runs/filter", json={"deployments": {"id": {"any_": [deployment]}}})
    times = {datetime.fromisoformat(run["expected_start_time"]) for run in found.json()}
    return minute in times


def next_minute():
    return datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)


def sleep_until(moment):
    time.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()))


try:
    for _ in range(240):
        try:
            api.get("/health").raise_for_status()
            break
        except httpx.HTTPError:
            time.sleep(0.5)
    flow = api.post("/flows/", json={"name": "minutely"}).json()["id"]
    saved = {"name": "same", "flow_id": flow}
    saved["schedules"] = [{"schedule": {"cron": "* * * * *", "timezone": "UTC"}, "active": True}]
    deployment = api.post("/deployments/", json=saved).json()["id"]
    time.sleep(20)
    for _ in range(TRIES):
        due = next_minute()
        sleep_until(due - timedelta(seconds=0.5))
        before = planned(due)
        api.post("/deployments/", json=saved).raise_for_status()
        time.sleep(20)
        print(f"{due:%H:%M}: planned before {before}, there after {planned(due)},", end=" ")
        print("the next minute", planned(due + timedelta(minutes=1)))
        if before and not planned(due) and planned(due + timedelta(minutes=1)):
            break
    else:
        sys.exit("changed: the run that is due stays")
finally:
    server.terminate()
    server.wait(timeout=60)
PYTHON
