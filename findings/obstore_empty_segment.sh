#!/usr/bin/env bash
# obstore 0.12.1: one key with `//` makes the listing of all objects beside it fail.
#
# `a//b` is a valid S3 key, and tools write such keys where a prefix ends in a slash. Seen, against
# moto's server: boto3 lists both objects; obstore's `list` of the prefix raises InvalidPathError
# and gives none, and `get` of the key raises ValueError: the object cannot be named.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m pip install --quiet --disable-pip-version-check --target "$folder" \
    obstore==0.12.1 'moto[server]==5.2.5' boto3==1.43.117
PYTHONPATH=$folder AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test python3 - <<'PYTHON'
import logging
import sys
from importlib.metadata import version

import boto3
import obstore
from moto.server import ThreadedMotoServer
from obstore.exceptions import InvalidPathError
from obstore.store import S3Store

assert version("obstore") == "0.12.1", version("obstore")
logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
url = f"http://{host}:{port}"
client = boto3.client("s3", endpoint_url=url, region_name="us-east-1")
client.create_bucket(Bucket="bucket")
for key in ("photos/one.jpg", "photos//two.jpg"):
    client.put_object(Bucket="bucket", Key=key, Body=b"x")
listed = [found["Key"] for found in client.list_objects_v2(Bucket="bucket")["Contents"]]
print("boto3:", listed)
store = S3Store(
    "bucket", endpoint=url, region="us-east-1", client_options={"allow_http": True},
    virtual_hosted_style_request=False,
)
try:
    print("obstore list:", [found["path"] for found in store.list("photos").collect()])
    changed = True
except InvalidPathError as err:
    print("obstore list:", type(err).__name__, str(err).splitlines()[0])
    changed = False
try:
    print("obstore get:", bytes(obstore.get(store, "photos//two.jpg").bytes()))
    changed = True
except ValueError as err:
    print("obstore get:", type(err).__name__, str(err).splitlines()[0])
sys.exit("changed: listing or reading succeeds" if changed else 0)
PYTHON
