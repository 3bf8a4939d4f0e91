import io
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from dcd.encoders.precision import natural_images
from dcd.images import decode_pool
from dcd.images.decode_pool import Decoded, WorkerLost, decoded_elsewhere, decoded_here
from dcd.images.preprocess import Preprocess

PREPROCESS = Preprocess(32, 0.9, "bicubic", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


@pytest.fixture(scope="module")
def photos() -> list[bytes]:
    """70 photographs of unlike sizes, among them one that is none and one that is cut off."""
    encoded = []
    for i, pixels in enumerate(natural_images(70, 64)):
        file = io.BytesIO()
        Image.fromarray(pixels[: 40 + i % 20]).save(file, "PNG" if i % 3 else "JPEG")
        encoded.append(file.getvalue())
    encoded[3] = b"no image"
    encoded[40] = encoded[40][:200]
    return encoded


@pytest.fixture(scope="module", autouse=True)
def _processes_end() -> Iterator[None]:
    yield
    decode_pool._pool().close()
    decode_pool._pool.cache_clear()


def _same(a: Decoded, b: Decoded) -> bool:
    good = [reason is None for reason in a.reasons]
    return a.reasons == b.reasons and bool((a.pixels[good] == b.pixels[good]).all())


def _kill_workers() -> None:
    for worker in list(decode_pool._pool()._idle.queue):
        if worker is not None and worker.process.pid:
            os.kill(worker.process.pid, signal.SIGKILL)


def test_processes_give_the_same_pixels_and_reasons(photos: list[bytes]) -> None:
    here = decoded_here(photos, PREPROCESS)
    assert [i for i, reason in enumerate(here.reasons) if reason] == [3, 40]
    assert _same(here, decoded_elsewhere(photos, PREPROCESS))


def test_threads_share_the_processes(photos: list[bytes]) -> None:
    parts = [photos[i : i + 7] for i in range(0, 70, 7)]
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(lambda part: decoded_elsewhere(part, PREPROCESS), parts))
    assert all(
        _same(decoded_here(part, PREPROCESS), each) for part, each in zip(parts, found, strict=True)
    )


def test_an_image_larger_than_a_part_goes_alone(monkeypatch, photos: list[bytes]) -> None:
    monkeypatch.setattr(decode_pool, "_MAX_BYTES_AT_ONCE", 3000)
    assert max(map(len, photos)) > 3000
    parts = decode_pool._parts(photos)
    assert [photo for part in parts for photo in part] == photos
    assert all(len(part) == 1 or sum(map(len, part)) <= 3000 for part in parts)
    assert _same(decoded_here(photos, PREPROCESS), decoded_elsewhere(photos, PREPROCESS))


def test_nothing_to_decode() -> None:
    assert decoded_elsewhere([], PREPROCESS).pixels.shape == (0, 32, 32, 3)


def test_a_killed_process_is_replaced(photos: list[bytes]) -> None:
    decoded_elsewhere(photos, PREPROCESS)
    _kill_workers()
    assert _same(decoded_here(photos, PREPROCESS), decoded_elsewhere(photos, PREPROCESS))


def test_processes_that_die_again_and_again_are_one_clear_error(
    monkeypatch, photos: list[bytes]
) -> None:
    class Dying(decode_pool._Worker):
        def decode(self, *args) -> list[str | None]:
            assert self.process.pid
            os.kill(self.process.pid, signal.SIGKILL)
            return super().decode(*args)

    monkeypatch.setattr(decode_pool, "_Worker", Dying)
    pool = decode_pool._Pool(1)
    pixels = np.empty((2, 32, 32, 3), np.uint8)
    with pytest.raises(WorkerLost, match="ended twice in a row"):
        pool.decode(photos[:2], PREPROCESS, pixels)
    monkeypatch.undo()
    assert pool.decode(photos[:2], PREPROCESS, pixels) == [None, None]
    pool.close()


def test_the_pool_leaves_no_process_and_no_file_behind(photos: list[bytes]) -> None:
    pool = decode_pool._Pool(2)
    pool.decode(photos[:2], PREPROCESS, np.empty((2, 32, 32, 3), np.uint8))
    (worker,) = [each for each in pool._idle.queue if each is not None]
    n_files, n_threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    pool.close()
    assert not worker.process.is_alive()
    assert len(os.listdir("/proc/self/fd")) < n_files
    assert threading.active_count() <= n_threads
