"""Decode images in processes of their own, for machines whose GPU outruns one interpreter.

Decoding and resizing enter and leave the interpreter's lock some twenty times an image. With many
cores and a GPU behind them, threads then wait for the lock more than they decode. A worker here is
a process with a buffer that it shares with the caller: encoded bytes go in, pixels come out, and
only a few numbers travel by pipe.
"""

import atexit
import mmap
import multiprocessing
import os
import queue
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from multiprocessing import reduction
from multiprocessing.connection import Connection

import numpy as np

from dcd.errors import DCDError
from dcd.images.decode import BadImage, decode
from dcd.images.preprocess import Preprocess, to_input
from dcd.threads import cores

_IMAGES_AT_ONCE = 32
_MAX_BYTES_AT_ONCE = 8 * 2**20  # of encoded images; one alone may have more


class WorkerLost(DCDError):
    """A decoding process ended in the middle of its work, twice in a row."""


@dataclass(frozen=True)
class Decoded:
    """Pixels of (n, S, S, 3) uint8, and for every image None or the reason why it has none."""

    pixels: np.ndarray
    reasons: list[str | None]


def decoded_here(photos: Sequence[bytes], preprocess: Preprocess) -> Decoded:
    """Decode and resize images one after the other, in this thread.

    Rows of images that cannot be decoded are left as they come.
    """
    size = preprocess.input_size
    pixels = np.empty((len(photos), size, size, 3), np.uint8)
    return Decoded(pixels, _decode_into(pixels, photos, preprocess))


def decoded_elsewhere(photos: Sequence[bytes], preprocess: Preprocess) -> Decoded:
    """Do what `decoded_here` does in worker processes, one a core, shared by all threads.

    A worker that dies is replaced and its images are tried once more. Raises WorkerLost if that one
    dies too.
    """
    size = preprocess.input_size
    pixels = np.empty((len(photos), size, size, 3), np.uint8)
    reasons: list[str | None] = []
    for part in _parts(photos):
        start = len(reasons)
        reasons += _pool().decode(part, preprocess, pixels[start : start + len(part)])
    return Decoded(pixels, reasons)


def _parts(photos: Sequence[bytes]) -> list[list[bytes]]:
    """Cut into parts of few images and few bytes, so that a worker's buffer stays small."""
    parts: list[list[bytes]] = [[]]
    n_bytes = 0
    for photo in photos:
        is_full = len(parts[-1]) == _IMAGES_AT_ONCE or n_bytes + len(photo) > _MAX_BYTES_AT_ONCE
        if parts[-1] and is_full:
            parts.append([])
            n_bytes = 0
        parts[-1].append(photo)
        n_bytes += len(photo)
    return [part for part in parts if part]


def _decode_into(
    pixels: np.ndarray, photos: Sequence[bytes | memoryview], preprocess: Preprocess
) -> list[str | None]:
    reasons: list[str | None] = []
    for row, photo in zip(pixels, photos, strict=True):
        try:
            row[:] = to_input(decode(bytes(photo)), preprocess)
            reasons.append(None)
        except BadImage as err:
            reasons.append(err.reason)
    return reasons


@dataclass(frozen=True)
class _Order:
    """One part: its buffer's size, the lengths of the encoded images, and how they are wanted."""

    n_buffer_bytes: int
    lengths: list[int]
    preprocess: Preprocess

    @property
    def n_encoded_bytes(self) -> int:
        return sum(self.lengths)

    def pixels(self, buffer: mmap.mmap) -> np.ndarray:
        """(n, S, S, 3): the part of the buffer behind the encoded images."""
        size = self.preprocess.input_size
        shape = (len(self.lengths), size, size, 3)
        flat = np.frombuffer(buffer, np.uint8, int(np.prod(shape)), self.n_encoded_bytes)
        return flat.reshape(shape)


class _Worker:
    """A decoding process, the pipe to it, and the memory that both see."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._pipe, theirs = context.Pipe()
        # Not /dev/shm, which is small in many containers.
        self._file = os.memfd_create("dcd-decode")
        self._n_bytes = 0
        self._buffer: mmap.mmap | None = None
        self.process = context.Process(target=_work, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        reduction.send_handle(self._pipe, self._file, self.process.pid)

    def decode(
        self, photos: Sequence[bytes], preprocess: Preprocess, pixels: np.ndarray
    ) -> list[str | None]:
        """Fill (n, S, S, 3) pixels. Raises EOFError or OSError if the process is gone."""
        lengths = [len(photo) for photo in photos]
        order = _Order(self._sized(sum(lengths) + pixels.nbytes), lengths, preprocess)
        assert self._buffer is not None
        self._buffer.seek(0)
        for photo in photos:
            self._buffer.write(photo)
        self._pipe.send(order)
        reasons = self._pipe.recv()
        pixels[:] = order.pixels(self._buffer)
        return reasons

    def _sized(self, n_bytes: int) -> int:
        """The size of a buffer that holds so many bytes; it only ever grows."""
        if n_bytes > self._n_bytes:
            os.ftruncate(self._file, n_bytes)
            self._buffer = mmap.mmap(self._file, n_bytes)
            self._n_bytes = n_bytes
        return self._n_bytes

    def close(self) -> None:
        """End the process and give back the memory."""
        self._pipe.close()
        self.process.kill()
        self.process.join()
        os.close(self._file)


def _work(pipe: Connection) -> None:
    """What a worker process does until its caller is gone."""
    import torch

    torch.set_num_threads(1)
    file = reduction.recv_handle(pipe)
    buffer: mmap.mmap | None = None
    while True:
        try:
            order = pipe.recv()
        except (EOFError, OSError):
            return
        if buffer is None or len(buffer) != order.n_buffer_bytes:
            buffer = mmap.mmap(file, order.n_buffer_bytes)
        ends = np.cumsum([0, *order.lengths])
        view = memoryview(buffer)
        photos = [view[a:b] for a, b in pairwise(ends)]
        pipe.send(_decode_into(order.pixels(buffer), photos, order.preprocess))


class _Pool:
    """Workers that threads take, use and put back; each is started when it is first needed."""

    def __init__(self, n_workers: int):
        self._idle: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        for _ in range(n_workers):
            self._idle.put(None)

    def decode(
        self, photos: Sequence[bytes], preprocess: Preprocess, pixels: np.ndarray
    ) -> list[str | None]:
        worker = self._idle.get()
        try:
            for _ in range(2):
                worker = worker or _Worker()
                try:
                    return worker.decode(photos, preprocess, pixels)
                except (EOFError, OSError):
                    worker.close()
                    worker = None
        finally:
            self._idle.put(worker)
        raise WorkerLost(
            f"a process that decodes {len(photos)} images ended twice in a row; was it killed for "
            "memory? Free some, or embed with fewer cores"
        )

    def close(self) -> None:
        while True:
            try:
                worker = self._idle.get_nowait()
            except queue.Empty:
                return
            if worker is not None:
                worker.close()


@lru_cache(maxsize=1)
def _pool() -> _Pool:
    pool = _Pool(cores())
    atexit.register(pool.close)
    return pool
