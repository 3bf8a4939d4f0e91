#!/usr/bin/env bash
# prefect 3.8.8 with fastapi 0.165.0, which it allows: its server does not start.
#
# Seen: `import prefect.server.api.concurrency_limits_v2` raises TypeError, for it gives Body() the
# keyword `min_items`, which fastapi no longer takes; with fastapi 0.150.0 it is imported. A plain
# `pip install prefect==3.8.8` takes the newest fastapi, so flows without a server of their own
# fail too: Prefect starts a temporary one for them.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
cat >"$folder/look.py" <<'PYTHON'
import sys

import fastapi
import prefect

assert prefect.__version__ == "3.8.8", prefect.__version__
try:
    import prefect.server.api.concurrency_limits_v2
except TypeError as err:
    said = str(err)
else:
    said = "imported"
print(f"fastapi {fastapi.__version__}: {said}")
wanted = {"0.165.0": "Body() got an unexpected keyword argument 'min_items'", "0.150.0": "imported"}
sys.exit(0 if said == wanted[fastapi.__version__] else "changed")
PYTHON
for fastapi in 0.165.0 0.150.0; do
    "$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
        prefect==3.8.8 "fastapi==$fastapi" starlette==1.10.0 pydantic==2.14.4 sqlalchemy==2.0.58
    PREFECT_HOME=$folder/home "$folder/venv/bin/python" "$folder/look.py"
done
