import base64
import io
from collections.abc import Collection, Mapping

from PIL import Image

from dcd.report.thumbnails import album
from tests.dcd.report.run_records import noise, png

PREFIX = "data:image/webp;base64,"


def opened(uri: str) -> Image.Image:
    assert uri.startswith(PREFIX)
    return Image.open(io.BytesIO(base64.b64decode(uri[len(PREFIX) :])))


def test_large_pictures_shrink_and_small_ones_keep_their_size():
    sizes = {"large": 300, "small": 28}
    found = album(list(sizes), lambda ids: {i: png(i, sizes[i]) for i in ids}, 10**6)
    assert {i: opened(uri).size for i, uri in found.uris.items()} == {
        "large": (64, 64),
        "small": (28, 28),
    }


def test_what_is_missing_or_broken_is_told_apart_from_what_is_left_out():
    images = noise(16, broken=["bad"])
    found = album(
        ["good", "bad", "missing"],
        lambda ids: {i: data for i, data in images(ids).items() if i != "missing"},
        10**6,
    )
    assert set(found.uris) == {"good"}
    assert found.broken == {"bad", "missing"}
    assert found.holds("bad")
    assert not found.holds("never asked for")


def test_the_budget_holds_for_uses_not_for_distinct_pictures():
    one = len(album(["a"], noise(32), 10**6).uris["a"])
    uses = ["a", "a", "a", "b"]
    assert set(album(uses, noise(32), 5 * one).uris) == {"a", "b"}
    assert set(album(uses, noise(32), 3 * one).uris) == {"a"}
    assert not album(uses, noise(32), one - 1).uris


def test_the_first_uses_win_and_the_same_ones_every_time():
    uses = [f"i{n}" for n in range(40)]
    budget = 20_000
    found = album(uses, noise(32), budget)
    assert sum(map(len, found.uris.values())) <= budget
    assert list(found.uris) == uses[: len(found.uris)]
    assert 0 < len(found.uris) < 40
    assert album(uses, noise(32), budget) == found


def test_images_are_fetched_once_and_a_few_hundred_at_a_time():
    asked: list[list[str]] = []
    images = noise(8)

    def counting(ids: Collection[str]) -> Mapping[str, bytes]:
        asked.append(list(ids))
        return images(ids)

    uses = [f"i{n % 600}" for n in range(1200)]
    album(uses, counting, 10**7)
    every = [i for batch in asked for i in batch]
    assert len(every) == len(set(every)) == 600
    assert max(map(len, asked)) <= 256
