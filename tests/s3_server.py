"""A real S3 server for tests: one node of OpenStack Swift with its s3api and tempauth, no root.

Swift wants its own virtual environment; it is made once under the user's cache, or SWIFT_BIN
names the `bin` folder of one that exists. The server's state survives kill() and start().
"""

import os
import socket
import subprocess
import time
from getpass import getuser
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.environments import environment

SWIFT_VERSION = "2.38.3"
ACCESS_KEY, SECRET_KEY = "dcd:admin", "dcd-admin-secret"
READER_KEY, READER_SECRET = "dcd:reader", "dcd-reader-secret"  # only what a bucket's ACL gives
REGION = "us-east-1"

_BACKENDS = ("object", "container", "account")
_START_TIMEOUT_S = 300

_SWIFT_CONF = """\
[swift-hash]
swift_hash_path_prefix = dcd
swift_hash_path_suffix = dcd
[storage-policy:0]
name = default
default = yes
"""

_BACKEND_CONF = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {etc}
devices = {devices}
mount_check = false
fallocate_reserve = 0
recon_cache_path = {cache}
log_level = WARNING
log_address = /dev/null
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
"""

_PROXY_CONF = """\
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {etc}
log_level = WARNING
log_address = /dev/null
[pipeline:main]
pipeline = catch_errors cache s3api tempauth copy slo dlo proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
allow_account_management = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
[filter:s3api]
use = egg:swift#s3api
location = {region}
s3_acl = false
check_bucket_owner = false
[filter:tempauth]
use = egg:swift#tempauth
user_dcd_admin = {secret} .admin
user_dcd_reader = {reader_secret}
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""


# Runs in Swift's environment: one ring of one device for each `kind:port` argument.
_MAKE_RINGS = """
import sys
from swift.common.ring import RingBuilder
for argument in sys.argv[1:]:
    kind, port = argument.split(":")
    address = {"ip": "127.0.0.1", "port": int(port)}
    address |= {"replication_ip": "127.0.0.1", "replication_port": int(port)}
    builder = RingBuilder(part_power=4, replicas=1, min_part_hours=1)
    builder.add_dev({"region": 1, "zone": 1, "device": "d1", "weight": 1.0, "meta": "", **address})
    builder.rebalance()
    builder.get_ring().save(kind + ".ring.gz")
"""


class SwiftServer:
    """Four Swift processes over one folder; `url` is the S3 endpoint while they run."""

    def __init__(self, folder: Path, bin_dir: Path | None = None):
        self.bin = bin_dir or swift_bin()
        self.folder = folder
        self.etc = folder / "etc"
        self.ports = dict(zip((*_BACKENDS, "proxy"), free_ports(4), strict=True))
        self.url = f"http://127.0.0.1:{self.ports['proxy']}"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._write_configs()

    def start(self) -> None:
        """Start the four servers and wait until the proxy and its back ends answer."""
        log = (self.folder / "swift.log").open("ab")
        environ = os.environ | {"SWIFT_CONF_FILE": str(self.etc / "swift.conf")}
        for kind in self.ports:
            command = [self.bin / f"swift-{kind}-server", self.etc / f"{kind}.conf"]
            self._processes.append(
                subprocess.Popen(command, cwd=self.folder, env=environ, stdout=log, stderr=log)
            )
        log.close()
        self._wait_until_ready()

    def stop(self) -> None:
        self._end(kill=False)

    def kill(self) -> None:
        """SIGKILL, as a power cut would: nothing acknowledged may be lost."""
        self._end(kill=True)

    def _end(self, *, kill: bool) -> None:
        for process in self._processes:
            process.kill() if kill else process.terminate()
        for process in self._processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._processes.clear()

    def _write_configs(self) -> None:
        devices, cache = self.folder / "srv", self.folder / "cache"
        for made in (self.etc, devices / "d1", cache):
            made.mkdir(parents=True)
        (self.etc / "swift.conf").write_text(_SWIFT_CONF)
        for kind in _BACKENDS:
            port = self.ports[kind]
            conf = _BACKEND_CONF.format(
                kind=kind, port=port, user=getuser(), etc=self.etc, devices=devices, cache=cache
            )
            (self.etc / f"{kind}.conf").write_text(conf)
        (self.etc / "proxy.conf").write_text(
            _PROXY_CONF.format(
                port=self.ports["proxy"],
                user=getuser(),
                etc=self.etc,
                region=REGION,
                secret=SECRET_KEY,
                reader_secret=READER_SECRET,
            )
        )

        rings = [f"{kind}:{self.ports[kind]}" for kind in _BACKENDS]
        python = [self.bin / "python", "-c", _MAKE_RINGS]
        subprocess.run([*python, *rings], cwd=self.etc, check=True, capture_output=True)

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + _START_TIMEOUT_S
        saw: object = None
        while time.monotonic() < deadline:
            ended = [p.args for p in self._processes if p.poll() is not None]
            if ended:
                saw = f"ended: {ended}"
                break
            try:
                client(self.url).list_buckets()
                return
            except (BotoCoreError, ClientError) as err:
                saw = err
                time.sleep(0.1)
        self.kill()
        log = (self.folder / "swift.log").read_text()
        raise RuntimeError(f"Swift did not start: {saw}\n{log}")


def settings(endpoint: str) -> dict[str, str]:
    """Return the variables that lead to a server with these keys, and to no file of the user's."""
    return {
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": "/nonexistent",
        "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
    }


def use(endpoint: str, patch: pytest.MonkeyPatch) -> None:
    """Set these variables for a test, and take away those that would lead elsewhere."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_ENDPOINT_URL"):
        patch.delenv(name, raising=False)
    for name, value in settings(endpoint).items():
        patch.setenv(name, value)


def client(endpoint: str) -> Any:
    """A boto3 client with the rights of the account's owner."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(
            retries={"total_max_attempts": 1},
            connect_timeout=5,
            read_timeout=30,
            s3={"addressing_style": "path"},
        ),
    )


def swift_bin() -> Path:
    """The `bin` folder of a virtual environment with Swift; made on first use."""
    if named := os.environ.get("SWIFT_BIN"):
        return Path(named)
    return environment(f"swift-{SWIFT_VERSION}", f"swift=={SWIFT_VERSION}")


def free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()
