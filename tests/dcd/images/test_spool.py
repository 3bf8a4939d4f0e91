import pickle
from pathlib import Path

import numpy as np
import pytest

from dcd.images.spool import Spool, SpooledImages, chained, taken


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "images")


def test_images_come_back_in_the_order_asked_for_and_lie_in_the_file_alone(spool: Spool):
    places = spool.write((name, name.encode() * n) for n, name in enumerate("abc", 1))
    places = {**places, **spool.write([("d", b"")])}
    images = spool.images([places[name] for name in "cad"])
    assert list(images) == [b"ccc", b"a", b""]
    assert images[-1] == b""
    assert list(pickle.loads(pickle.dumps(images))) == list(images)  # workers get it so
    with pytest.raises(IndexError):
        images[3]


def test_taking_and_chaining_read_nothing(spool: Spool):
    places = spool.write([("a", b"1"), ("b", b"2"), ("c", b"3")])
    images = spool.images(places.values())
    spool.path.unlink()
    rest = taken(images, np.array([2, 0]))
    both = chained([images, rest])
    assert isinstance(both, SpooledImages)
    assert len(both) == 5


def test_bytes_in_memory_are_taken_and_chained_too(spool: Spool):
    spooled = spool.images(spool.write([("a", b"1")]).values())
    assert taken([b"x", b"y"], np.array([1])) == [b"y"]
    assert chained([spooled, [b"x"]]) == [b"1", b"x"]
    assert len(spool.images([])) == 0
