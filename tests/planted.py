"""Keys that are told from all else, and every place where a command may have left one.

Parquet and packed bytes hide what they hold from a plain search, so tables are read, not searched.
"""

import io
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

ACCESS_KEY = "AKIAPLANTEDACCESSKEY"
SECRET_KEY = "planted0secret/key+0of+an+account0000000"
TOKEN = "planted0session0token//with+signs=="
PROXY_PASSWORD = "planted0proxy0password"
OTHER_TOKEN = "planted0token0of0a0hub"
IN_URL = "planted0secret0in0a0url"
DATABASE_PASSWORD = "planted0database0password"
PLANTED = (
    *(ACCESS_KEY, SECRET_KEY, TOKEN, PROXY_PASSWORD, OTHER_TOKEN, IN_URL, DATABASE_PASSWORD),
)
_TIMEOUT_S = 900


@dataclass(frozen=True)
class Place:
    """Something that was written or said, and what stands in it."""

    name: str
    text: bytes


def environment(endpoint: str, home: Path) -> dict[str, str]:
    """Return the variables of a session that has keys, a token, and a proxy with a password."""
    nowhere = str(home / "no-such-file")
    return {
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_SESSION_TOKEN": TOKEN,
        "AWS_ENDPOINT_URL_S3": endpoint,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_CONFIG_FILE": nowhere,
        "AWS_SHARED_CREDENTIALS_FILE": nowhere,
        "HF_TOKEN": OTHER_TOKEN,
        "HTTPS_PROXY": f"http://someone:{PROXY_PASSWORD}@127.0.0.1:9",
        "NO_PROXY": "127.0.0.1,localhost",
        "PREFECT_HOME": str(home / "prefect"),
        "TMPDIR": str(home / "tmp"),
    }


def command(*arguments: str, cwd: Path, env: Mapping[str, str]) -> tuple[int, Place]:
    """Run `dcd` in a process of its own; gives its exit code, and all that it said."""
    Path(env["TMPDIR"]).mkdir(parents=True, exist_ok=True)
    ended = subprocess.run(
        [sys.executable, "-m", "flows", *arguments],
        cwd=cwd,
        env=dict(env),
        capture_output=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    return ended.returncode, Place(f"dcd {' '.join(arguments)}", ended.stdout + ended.stderr)


def in_folder(folder: Path) -> Iterator[Place]:
    """All files below a folder, databases and logs too."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield Place(str(path), path.read_bytes())


def in_bucket(client: object, bucket: str) -> Iterator[Place]:
    """All objects of a bucket; of tables, their cells and metadata."""
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)  # pyright: ignore
    for page in pages:
        for found in page.get("Contents", ()):
            data = client.get_object(Bucket=bucket, Key=found["Key"])["Body"].read()  # pyright: ignore
            yield Place(found["Key"], data)
            if data[:4] == b"PAR1":
                table = pq.read_table(io.BytesIO(data))
                text = f"{table.to_pylist()}{table.schema.metadata}"
                yield Place(found["Key"], text.encode())


def leaks(places: Iterator[Place]) -> list[str]:
    """Say which planted key stands where."""
    return [
        f"{secret} in {place.name}: {_around(place.text, secret.encode())!r}"
        for place in places
        for secret in PLANTED
        if secret.encode() in place.text
    ]


def _around(text: bytes, secret: bytes) -> bytes:
    at = text.index(secret)
    return text[max(0, at - 200) : at + len(secret) + 40]
