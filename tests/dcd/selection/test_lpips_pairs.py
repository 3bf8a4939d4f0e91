from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from dcd.errors import DataError
from dcd.selection import lpips_pairs
from dcd.selection.lpips import Lpips, load_lpips
from dcd.selection.lpips_pairs import pair_distances
from dcd.sources.records import RawImage
from tests.case import png
from tests.dcd.selection.lpips_reference import lpips_distances
from tests.dcd.selection.lpips_weights import write_alexnet


@pytest.fixture(scope="module")
def lpips(tmp_path_factory: pytest.TempPathFactory) -> Lpips:
    return load_lpips(write_alexnet(tmp_path_factory.mktemp("alexnet") / "alexnet.safetensors"))


@pytest.fixture(scope="module")
def images() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    return {f"{label}{i}": png(rng, label, dark=False) for label in ("red", "blue") for i in (0, 1)}


PAIRS = pa.table(
    {
        "label": ["a", "b", "a", "a"],
        "error_image_id": ["f1", "f2", "f3", "f1"],
        "image_id": ["red1", "blue1", "red1", "blue1"],
    }
)
FAILURES = {"f1": "red0", "f2": "blue0", "f3": "red1"}


def readers(images: dict[str, bytes]):
    """Of failures and of candidates, and what they were asked for."""
    asked: list[list[str]] = []

    def failures(ids: Sequence[str]) -> list[RawImage]:
        asked.append(list(ids))
        return [RawImage(i, images[FAILURES[i]], None) for i in ids]

    def candidates(ids: Sequence[str]) -> list[RawImage]:
        asked.append(list(ids))
        return [RawImage(i, images[i], None) for i in reversed(ids)]

    return failures, candidates, asked


def test_every_pair_has_the_distance_of_its_images(lpips: Lpips, images: dict[str, bytes]):
    failures, candidates, asked = readers(images)
    found = pair_distances(lpips, PAIRS, failures, candidates)
    expected = [
        lpips_distances(lpips, images[FAILURES[row["error_image_id"]]], [images[row["image_id"]]])
        for row in PAIRS.to_pylist()
    ]
    assert found == pytest.approx(np.concatenate(expected), rel=1e-4, abs=1e-9)
    assert found[2] == pytest.approx(0, abs=1e-9)
    assert asked == [["f1", "f3", "f2"], ["blue1", "red1"]]  # each image once


def test_blocks_of_failures_give_the_same(lpips: Lpips, images: dict[str, bytes]):
    failures, candidates, asked = readers(images)
    whole = pair_distances(lpips, PAIRS, failures, candidates)
    asked.clear()
    assert pair_distances(lpips, PAIRS, failures, candidates, 2) == pytest.approx(whole, rel=1e-4)
    assert asked == [["f1", "f3"], ["blue1", "red1"], ["f2"], ["blue1"]]


def test_few_images_are_read_ahead(
    lpips: Lpips, images: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(lpips_pairs, "BATCH_SIZE", 1)
    monkeypatch.setattr(lpips_pairs, "cores", lambda: 1)
    n_read = n_ahead = 0
    n_done = -1  # the failure comes first

    def vectors(_: Lpips, inputs: Sequence[np.ndarray]):
        nonlocal n_done, n_ahead
        n_ahead = max(n_ahead, n_read - n_done)
        n_done += len(inputs)
        return lpips_pairs.torch.zeros(len(inputs), 3)

    monkeypatch.setattr(lpips_pairs, "lpips_vectors", vectors)

    def candidates(ids: Sequence[str]):
        nonlocal n_read
        for image_id in ids:
            n_read += 1
            yield RawImage(image_id, images["red0"], None)

    pairs = pa.table({"label": ["a"] * 9, "error_image_id": ["f1"] * 9, "image_id": [*"123456789"]})
    pair_distances(lpips, pairs, readers(images)[0], candidates)
    assert (n_read, n_done) == (9, 9)
    assert n_ahead == 1


def test_an_image_that_is_none_any_more_is_named(lpips: Lpips, images: dict[str, bytes]):
    failures, candidates, _ = readers(images | {"blue1": b"gone"})
    with pytest.raises(DataError, match="'blue1' was embedded, but is none any more"):
        pair_distances(lpips, PAIRS, failures, candidates)


def test_an_image_that_is_not_handed_out_is_named(lpips: Lpips, images: dict[str, bytes]):
    failures, candidates, _ = readers(images)
    with pytest.raises(DataError, match="1 of 4 pairs have no distance, such as 'f2' and 'blue1'"):
        pair_distances(lpips, PAIRS, lambda ids: failures(ids[:2]), candidates)
