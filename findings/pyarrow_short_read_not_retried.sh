#!/usr/bin/env bash
# pyarrow 26.0.1: a busy S3 is not asked again where its answer is longer than the piece asked for.
#
# Seen: a server answers the first GET with 503 SlowDown and 300 bytes of XML, as Amazon does. A read
# of 4,096 bytes is tried again and succeeds. A read of 8 bytes ends after one request in an OSError
# "INTERNAL_FAILURE … Failed to flush response stream": neither the status nor SlowDown is told.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" pyarrow==26.0.1
AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY=secret PYTHONPATH=$folder python3 - <<'PYTHON'
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
from pyarrow.fs import S3FileSystem

assert pa.__version__ == "26.0.1", pa.__version__
DATA = bytes(10_000)
ERROR = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message>"
ERROR += b"<RequestId>" + b"0" * (300 - len(ERROR) - 31) + b"</RequestId></Error>"


class Busy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    n_reads = 0

    def do_HEAD(self):
        self.answer(200, b"", len(DATA))

    def do_GET(self):
        type(self).n_reads += 1
        if self.n_reads == 1:
            self.answer(503, ERROR, len(ERROR))
            return
        first, last = self.headers["Range"].removeprefix("bytes=").split("-")
        piece = DATA[int(first) : int(last) + 1]
        self.answer(206, piece, len(piece))

    def answer(self, status, body, length):
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
threading.Thread(target=server.serve_forever, daemon=True).start()
where = f"127.0.0.1:{server.server_port}"
fs = S3FileSystem(region="us-east-1", scheme="http", endpoint_override=where)
seen = {}
for n_bytes in (4096, 8):
    Busy.n_reads = 0
    with fs.open_input_file("bucket/object") as file:
        try:
            file.read_at(n_bytes, 0)
            said = "read"
        except OSError as err:
            said = str(err)
    seen[n_bytes] = (said, Busy.n_reads)
    print(f"{n_bytes} bytes, {Busy.n_reads} requests: {said}")
as_described = (
    seen[4096] == ("read", 2) and seen[8][1] == 1 and "Failed to flush response stream" in seen[8][0]
)
sys.exit(0 if as_described else "changed")
PYTHON
