#!/usr/bin/env bash
# pyarrow 26.0.1: a string_view column is made, cast and grouped, but not taken, filtered or sorted.
#
# Text of DuckDB and Polars may come as string_view. Seen: `cast` and `group_by` give the rows;
# `take`, `filter` and `sort_by` raise, for the same valid table (the first two
# ArrowNotImplementedError, the last ArrowTypeError).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" pyarrow==26.0.1
PYTHONPATH=$folder python3 - <<'PYTHON'
import sys

import pyarrow as pa

assert pa.__version__ == "26.0.1", pa.__version__
plain = pa.table({"label": pa.array(["a", "b", "a long one, beyond twelve bytes"])})
viewed = plain.cast(pa.schema([("label", pa.string_view())]))
ways = {
    "cast": lambda table: table.cast(plain.schema).num_rows,
    "group_by": lambda table: table.group_by("label").aggregate([]).num_rows,
    "take": lambda table: table.take([0]).num_rows,
    "filter": lambda table: table.filter(pa.array([True, False, True])).num_rows,
    "sort_by": lambda table: table.sort_by("label").num_rows,
}
refused = set()
for name, way in ways.items():
    print(f"string: {name} gives {way(plain)} rows")
    try:
        print(f"string_view: {name} gives {way(viewed)} rows")
    except (pa.ArrowNotImplementedError, pa.ArrowTypeError) as err:
        refused.add(name)
        print(f"string_view: {name} raises: {type(err).__name__}: {str(err)[:90]}")
if refused != {"take", "filter", "sort_by"}:
    sys.exit("changed: " + ", ".join(sorted(refused)) + " raise now")
PYTHON
