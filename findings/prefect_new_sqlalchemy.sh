#!/usr/bin/env bash
# prefect 3.8.8 with SQLAlchemy 2.1.9, which it allows: no schedule ever fires.
#
# Seen: the server starts and answers, a deployment with the schedule `* * * * *` is saved (201),
# and no run of it is planned. Only the server's log says why: its scheduler ends in
# InvalidRequestError ("Can't evaluate bulk DML statement; please supply a bulk_dml decorated
# function"). With SQLAlchemy 2.0.58 runs are planned within seconds.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat >"$folder/look.py" <<'PYTHON'
import subprocess
import sys
import time
from pathlib import Path

import httpx
import prefect
import sqlalchemy

assert prefect.__version__ == "3.8.8", prefect.__version__
PORT, LOOKS = 42127, 30
api = httpx.Client(base_url=f"http://127.0.0.1:{PORT}/api", timeout=60)
log = Path(sys.argv[1])
command = (sys.executable, "-m", "prefect", "server", "start", "--port", str(PORT))
with log.open("wb") as out:
    server = subprocess.Popen(command, stdout=out, stderr=out)
try:
    for _ in range(240):
        try:
            api.get("/health").raise_for_status()
            break
        except httpx.HTTPError:
            time.sleep(0.5)
    flow = api.post("/flows/", json={"name": "minutely"}).json()["id"]
    saved = {"name": "cron", "flow_id": flow}
    saved["schedules"] = [{"schedule": {"cron": "* * * * *", "timezone": "UTC"}, "active": True}]
    status = api.post("/deployments/", json=saved).status_code
    for _ in range(LOOKS):
        n_planned = len(api.post("/flow_runs/filter", json={}).json())
        if n_planned:
            break
        time.sleep(1)
finally:
    server.terminate()
    server.wait(timeout=60)
told = "Can't evaluate bulk DML statement" in log.read_text(errors="replace")
print(f"SQLAlchemy {sqlalchemy.__version__}: {status}, {n_planned} planned, error in the log {told}")
new = sqlalchemy.__version__ == "2.1.9"
sys.exit(0 if status == 201 and told == new and (n_planned == 0) == new else "changed")
PYTHON
export PREFECT_SERVER_ANALYTICS_ENABLED=false DO_NOT_TRACK=1
for sqlalchemy in 2.1.9 2.0.58; do
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
        prefect==3.8.8 fastapi==0.150.0 starlette==1.10.0 "sqlalchemy==$sqlalchemy"
    PREFECT_HOME=$folder/home-$sqlalchemy "$folder/venv/bin/python" "$folder/look.py" \
        "$folder/$sqlalchemy.log"
done
