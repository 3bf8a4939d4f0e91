#!/usr/bin/env bash
# pyarrow 26.0.1, pandas 3.1.1: reading Parquet, or one array of a list, imports all of pandas.
#
# pyarrow does not depend on pandas and works without it. Where it is installed, `import pyarrow`
# and writing Parquet leave it alone, but `pq.read_table` and `pa.array(["a"])` import the whole of
# it: hundreds of modules, for longer than pyarrow's own import takes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" \
  pyarrow==26.0.1 pandas==3.1.1
for way in write read list; do
  PYTHONPATH=$folder python3 - "$way" "$folder" <<'PYTHON'
import sys
import time

start = time.process_time()
import pyarrow as pa
import pyarrow.parquet as pq

own_s = time.process_time() - start
assert pa.__version__ == "26.0.1", pa.__version__
way, file = sys.argv[1], f"{sys.argv[2]}/numbers.parquet"
if "pandas" in sys.modules:
    sys.exit("changed: import pyarrow imports pandas")
n_before, start = len(sys.modules), time.process_time()
match way:
    case "write":
        column = pa.Array.from_buffers(pa.int64(), 2, [None, pa.py_buffer(bytes(16))])
        pq.write_table(pa.table([column], names=["n"]), file)
    case "read":
        pq.read_table(file)
    case "list":
        pa.array(["a"])
spent_s, n_more = time.process_time() - start, len(sys.modules) - n_before
imported = "pandas" in sys.modules
print(
    f"{way}: pandas {'is' if imported else 'is not'} imported, {n_more} more modules, "
    f"{spent_s:.2f} s of CPU; import pyarrow took {own_s:.2f} s"
)
if imported != (way != "write"):
    sys.exit("changed")
PYTHON
done
