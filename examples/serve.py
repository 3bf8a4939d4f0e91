"""Serve the loop from a terminal, without work pool and worker, until Ctrl-C.

export PREFECT_API_URL=http://127.0.0.1:4200/api
python examples/serve.py config.yaml
"""

import sys

import dcd
from flows.debug_model import debug_model

if __name__ == "__main__":
    config = dcd.load_config(sys.argv[1])
    debug_model.serve("try-out", parameters={"config": config.model_dump(mode="json")})
