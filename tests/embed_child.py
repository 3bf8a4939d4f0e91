"""An embedding run in a process of its own that a test can kill, and that tells what it does.

The processes are forked from a server that has imported everything: a start costs no imports.
"""

import multiprocessing
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from typing import Literal

from prefect.settings import PREFECT_API_URL, temporary_settings

from dcd.config import EmbedConfig
from dcd.embeddings import embed
from dcd.embeddings.embed import embed_shard
from dcd.encoders.encoder import load_encoder
from dcd.sources.source import list_source, source_of
from dcd.store import Store
from flows.embed_pool import embed_pool

# What a child tells of a shard, in this order.
Step = Literal["embed", "embedded", "write rejects", "wrote rejects", "write", "published"]
STEPS_A_SHARD = 6
_TIMEOUT_S = 240


class Child:
    """A run in another process: `flow` is the real one, else a loop over the same functions."""

    def __init__(self, config: EmbedConfig, flow_api: str | None = None):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._steps, theirs = context.Pipe(duplex=False)
        environ = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        self._process = context.Process(target=_run, args=(config, environ, theirs, flow_api))
        self._process.start()
        theirs.close()
        self._deadline = time.monotonic() + _TIMEOUT_S

    def steps(self) -> Iterator[tuple[Step, str]]:
        """(step, shard) as they happen; ends when the process has ended."""
        while True:
            if not self._steps.poll(max(0, self._deadline - time.monotonic())):
                self._process.kill()
                raise TimeoutError(f"the child told nothing more within {_TIMEOUT_S} s")
            try:
                yield self._steps.recv()
            except (EOFError, OSError):
                return

    def kill(self) -> None:
        """SIGKILL. Fails if the process was over by itself."""
        assert self._process.is_alive(), "the run was over before it could be killed"
        self._process.kill()
        self._process.join()

    def join(self) -> int | None:
        """Wait for the end; the exit code."""
        self._process.join(_TIMEOUT_S)
        return self._process.exitcode


def _run(
    config: EmbedConfig, environ: dict[str, str], steps: Connection, flow_api: str | None
) -> None:
    os.environ.update(environ)
    _tell_steps(steps)
    if flow_api is None:
        _loop(config)
    else:
        with temporary_settings({PREFECT_API_URL: flow_api}):
            embed_pool(config)


def _loop(config: EmbedConfig) -> None:
    store, source = Store(config.store), source_of(config.pool)
    encoder_id = load_encoder(config.encoder).encoder_id
    shards = list_source(store, source)
    with ThreadPoolExecutor(config.runner.max_workers) as workers:
        done = workers.map(
            lambda shard: embed_shard(store, source, shard, config.encoder, encoder_id),
            shards,
        )
        assert len(list(done)) == len(shards)


def _tell_steps(steps: Connection) -> None:
    """Put a spy around embedding and around every write of a shard's tables."""
    sending = threading.Lock()
    embed_images, write_bytes = embed.embed_images, Store.write_bytes

    def tell(step: Step, shard: str) -> None:
        with sending:
            steps.send((step, shard))

    def telling_embed(shard, images, encoder, on_images=None):
        tell("embed", shard)
        embedded = embed_images(shard, images, encoder, on_images)
        tell("embedded", shard)
        return embedded

    def telling_write(store: Store, key: str, data: bytes) -> None:
        kind, _, rest = key.partition("/")
        shard = rest.rpartition("/")[2].removesuffix(".parquet")
        if kind == "rejects":
            tell("write rejects", shard)
            write_bytes(store, key, data)
            tell("wrote rejects", shard)
        elif kind == "embeddings":
            tell("write", shard)
            write_bytes(store, key, data)
            tell("published", shard)
        else:
            write_bytes(store, key, data)

    embed.embed_images = telling_embed
    Store.write_bytes = telling_write
