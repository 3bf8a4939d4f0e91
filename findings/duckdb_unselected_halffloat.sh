#!/usr/bin/env bash
# duckdb 2.0.0: a float16 column of an Arrow table fails queries that do not name it.
#
# Seen: `SELECT image_id FROM rows` raises NotImplementedException for the column `vector`; the same
# data in a Parquet file is read, vectors included, as FLOAT.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" \
    duckdb==2.0.0 pyarrow==26.0.1 numpy==2.4.6
PYTHONPATH=$folder python3 - "$folder/rows.parquet" <<'PYTHON'
import sys

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

assert duckdb.__version__ == "2.0.0", duckdb.__version__
rows = pa.table({"image_id": ["a", "b"], "vector": pa.array(np.ones(2, np.float16))})
pq.write_table(rows, sys.argv[1])
connection = duckdb.connect()
found = connection.execute("SELECT * FROM read_parquet(?)", [sys.argv[1]]).fetchall()
print("Parquet, all columns:", found)
try:
    print("Arrow, image_id alone:", connection.execute("SELECT image_id FROM rows").fetchall())
except duckdb.NotImplementedException as err:
    print("Arrow, image_id alone:", type(err).__name__, str(err)[:120])
else:
    sys.exit("changed: the query succeeds")
if found != [("a", 1.0), ("b", 1.0)]:
    sys.exit("changed: Parquet gives something else")
PYTHON
