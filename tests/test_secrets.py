"""Planted keys are found nowhere: in no object, log, report, database of Prefect or trace."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from tests import planted
from tests.case import write_case
from tests.faulty_proxy import Fault, FaultyProxy, Request
from tests.s3_server import client

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@dataclass(frozen=True)
class Session:
    """A folder with a case whose images and store are in a bucket, behind a proxy for faults."""

    folder: Path
    bucket: str
    proxy: FaultyProxy
    env: dict[str, str]

    @property
    def store(self) -> str:
        return f"s3://{self.bucket}/prefix/store"

    def dcd(self, *arguments: str, **env: str) -> tuple[int, planted.Place]:
        return planted.command(*arguments, cwd=self.folder, env={**self.env, **env})

    def places(self) -> Iterator[planted.Place]:
        yield from planted.in_folder(self.folder)
        yield from planted.in_bucket(client(self.proxy.url), self.bucket)


@pytest.fixture(scope="module")
def session(moto_endpoint: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    folder = tmp_path_factory.mktemp("planted")
    proxy = FaultyProxy(moto_endpoint)
    bucket = f"planted-{uuid4().hex[:12]}"
    s3 = client(proxy.url)
    s3.create_bucket(Bucket=bucket)
    config = write_case(folder, seeds=(0,), compare={"baselines": ["random"]}, failures=True)
    for path in folder.glob("*.parquet"):
        s3.upload_file(str(path), bucket, f"images/{path.name}")
    text = config.read_text().replace(f"{folder}/store", f"s3://{bucket}/prefix/store")
    config.write_text(text.replace(str(folder), f"s3://{bucket}/images"))
    inherited = {name: value for name, value in os.environ.items() if not _is_aside(name)}
    env = {**inherited, **planted.environment(proxy.url, folder / "home")}
    yield Session(folder, bucket, proxy, env)
    proxy.close()


def _is_aside(name: str) -> bool:
    return name.startswith(("AWS_", "PREFECT_")) or name.lower().endswith("_proxy")


def test_a_whole_session_leaves_no_key(session):
    store = ("--store", session.store)
    every: tuple[tuple[str, ...], ...] = (
        ("validate", "config.yaml"),
        ("estimate", "config.yaml"),
        ("embed", "config.yaml", "--verbose"),
        ("run", "config.yaml", "--verbose", "--json", "metrics.json"),
        ("select", "config.yaml"),
        ("pool", "status", "config.yaml"),
        ("failures", "watch", "config.yaml"),
        ("failures", "list", *store),
        ("champions", *store),
        ("store", "usage", *store),
        ("store", "verify", "--deep", *store),
        ("store", "backup", "kept", *store),
    )
    debug = {"PREFECT_LOGGING_LEVEL": "DEBUG", "PREFECT_LOGGING_ROOT_LEVEL": "DEBUG"}
    said = []
    for arguments in every:
        code, place = session.dcd(*arguments, **debug)
        assert code == 0, place.text.decode()
        said.append(place)
    assert not planted.leaks(iter(said))
    assert not planted.leaks(session.places())


@pytest.mark.parametrize(
    ("fault", "methods", "part", "arguments"),
    [
        ("403", ("PUT", "POST"), "/runs/", ("run", "config.yaml", "--verbose")),
        ("403", ("GET",), "/pool-1.parquet", ("embed", "config.yaml", "--verbose")),
        ("expired", ("GET", "HEAD", "PUT"), "", ("store", "verify", "--store", "{store}")),
        ("500", ("GET", "HEAD"), "", ("store", "usage", "--store", "{store}")),
    ],
)
def test_a_failing_s3_tells_no_key(session, fault, methods, part, arguments):
    """The answers hold the keys, as Amazon's do; what is raised and logged of them does not."""

    def refused(request: Request) -> Fault | None:
        return fault if request.method in methods and part in request.path else None

    env = {"PREFECT_LOGGING_LEVEL": "DEBUG"}
    told = [argument.format(store=session.store) for argument in arguments]
    if part == "/pool-1.parquet":  # of an encoder that has embedded nothing yet
        config = (session.folder / "config.yaml").read_text()
        (session.folder / "config.yaml").write_text(config.replace(": 32", ": 24"))
    session.proxy.decide = refused
    try:
        code, place = session.dcd(*told, **env)
    finally:
        session.proxy.decide = lambda _: None
    assert code == 1, place.text.decode()
    assert session.proxy.faults()[fault] > 0
    assert not planted.leaks(iter([place]))
    assert not planted.leaks(planted.in_folder(session.folder))


SECRET_URL = f"//{planted.ACCESS_KEY}:{planted.IN_URL}@"


@pytest.mark.parametrize(
    ("arguments", "env"),
    [
        (("store", "usage", "--store", f"s3:{SECRET_URL}bucket/x"), {}),
        (("store", "backup", f"s3:{SECRET_URL}bucket/x"), {}),
        (("serve", "--store", f"s3:{SECRET_URL}bucket/x"), {}),
        (("champions",), {"DCD_STORE": f"s3:{SECRET_URL}bucket/x"}),
        (("errors", f"s3:{SECRET_URL}bucket/x.pt", f"s3:{SECRET_URL}bucket/y"), {}),
        (("champions", "--store", "s3://b/x"), {"AWS_ENDPOINT_URL_S3": f"http:{SECRET_URL}host"}),
        (
            ("champions", "--store", "s3://b/x"),
            {
                "AWS_ENDPOINT_URL_S3": "http://host.invalid",
                "HTTP_PROXY": f"http://someone:{planted.PROXY_PASSWORD}@127.0.0.1:9",
            },
        ),
        (
            ("failures", "watch", "config.yaml"),
            {
                "PREFECT_API_DATABASE_CONNECTION_URL": "postgresql+asyncpg://someone:"
                f"{planted.DATABASE_PASSWORD}@127.0.0.1:9/x"
            },
        ),
        (
            ("failures", "watch", "config.yaml"),
            {"PREFECT_API_URL": f"http:{SECRET_URL}127.0.0.1:9/api"},
        ),
    ],
)
def test_a_secret_in_an_address_is_not_shown(session, arguments, env):
    code, place = session.dcd(*arguments, **env)
    assert code != 0
    assert not planted.leaks(iter([place]))


def test_a_secret_in_a_manifest_is_not_kept(session):
    """Rows with passwords and signed addresses are rejects; their ids say where, not with what."""
    signed = f"https://host/b.png?X-Amz-Signature={planted.IN_URL}"
    rows = {"uri": [f"s3:{SECRET_URL}bucket/a.png", f"https:{SECRET_URL}host/a.png", signed]}
    pq.write_table(pa.table({**rows, "weak_label": ["red"] * 3}), session.folder / "listed.parquet")
    for store in ("listed-store", f"{session.store}-listed"):
        document = {
            "store": store,
            "pool": {"name": "listed", "images": "listed.parquet", "label_column": "weak_label"},
            "encoder": {"model": "test_resnet", "weights": "random", "input_size": 32},
        }
        (session.folder / "listed.yaml").write_text(yaml.safe_dump(document))
        for arguments in (("embed", "listed.yaml", "-v"), ("pool", "status", "listed.yaml")):
            _, place = session.dcd(*arguments)
            assert not planted.leaks(iter([place]))
    (session.folder / "listed.parquet").unlink()  # it holds them by itself
    assert not planted.leaks(session.places())
