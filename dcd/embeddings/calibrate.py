"""Calibrate an encoder in int8 on images of the pool itself, once for a pool and its splits."""

import hashlib
import logging
from collections.abc import Iterator

import numpy as np

from dcd.config import EncoderConfig
from dcd.encoders.int8 import MISSING, has_nncf, make_graph, placed, stored_graph
from dcd.errors import DataError, EncoderError
from dcd.images.decode import BadImage, decode
from dcd.images.preprocess import Preprocess, to_input
from dcd.sources.listing import list_shards
from dcd.sources.records import RawImage
from dcd.sources.shards import read_shard
from dcd.sources.source import Source
from dcd.store import Store
from dcd.store.forgotten import forgotten_marks, mark_of
from dcd.tables import schemas

log = logging.getLogger(__name__)

N_IMAGES = 128
_MAX_SHARDS = 8
_APART = 8  # neighbours in a shard are often alike


def calibrated(store: Store, pool: Source, config: EncoderConfig) -> EncoderConfig:
    """Return the config with the place of its int8 graph, which is made unless it is there.

    A graph that is there is taken as it is, even if the pool has grown since: so what is embedded
    stays embedded. Configs of other precisions stay as they are.
    Raises EncoderError without NNCF, for a device that has no int8; DataError if no image decodes.
    """
    wanted = placed(config, store.url, pool.id)
    if wanted.precision != "int8" or stored_graph(wanted) is not None:
        return wanted
    if config.calibration is not None:
        raise EncoderError(
            f"encoder.calibration: nothing in {config.calibration} is of {config.model} with these "
            "weights and this input size; remove it to calibrate on this pool"
        )
    from dcd.encoders import backends
    from dcd.encoders.network import preprocess_of

    if not has_nncf():
        raise EncoderError(f"encoder.precision int8: {MISSING}")
    backends.resolve(wanted)
    preprocess = preprocess_of(wanted)
    digest = hashlib.blake2b(digest_size=16)
    inputs = []
    for picture in calibration_images(store, pool):
        pixels = _pixels(picture, preprocess)
        if pixels is not None:
            inputs.append(pixels)
            digest.update(schemas.content_hash(picture.data))
    if not inputs:
        raise DataError(f"{pool.data.images}: none of its first images decodes; int8 needs some")
    made = make_graph(wanted, np.stack(inputs), digest.hexdigest()[:12])
    log.info("%s: calibrated on %s images of pool %s", made.key, len(inputs), pool.id)
    return wanted


def calibration_images(store: Store, pool: Source) -> list[RawImage]:
    """Take the images to calibrate on, the same at every call for the same listing.

    Of up to eight shards that lie evenly in the listing equally many each, every eighth image from
    the first on; nearer together where a shard has fewer, which may give up to a half less.
    """
    shards = list_shards(pool.data)
    n_shards = min(len(shards), _MAX_SHARDS)
    marks = forgotten_marks(store)
    taken: list[RawImage] = []
    for number in range(n_shards):
        wanted = N_IMAGES // n_shards + (number < N_IMAGES % n_shards)
        shard = shards[number * len(shards) // n_shards]
        images = (i for i in read_shard(shard, pool.data) if isinstance(i, RawImage))
        kept = (i for i in images if mark_of(schemas.content_hash(i.data)) not in marks)
        taken += _spread(kept, wanted)
    return taken


def _spread(images: Iterator[RawImage], wanted: int) -> list[RawImage]:
    """Up to `wanted` images, evenly over the first ones; holds no more than twice as many."""
    apart, taken = 1, []
    for number, image in enumerate(images):
        if number == wanted * _APART:
            break
        if number % apart:
            continue
        taken.append(image)
        if len(taken) > wanted and apart < _APART:
            apart, taken = 2 * apart, taken[::2]
    return taken[:wanted]


def _pixels(picture: RawImage, preprocess: Preprocess) -> np.ndarray | None:
    try:
        return to_input(decode(picture.data), preprocess)
    except BadImage:
        return None
