"""Make the thumbnails of a review page when they are asked for: a shard is read once, for all."""

import threading
from collections import defaultdict
from collections.abc import Mapping

import pyarrow as pa

from dcd.report.thumbnails import thumbnail
from dcd.serve.review_desk import Desk, Fetch

MAX_SIDE_PX = 320
_AT_ONCE = 256  # encoded images held at once: bounds memory


class Pictures:
    """The thumbnails of one desk, by content of a candidate or id of a failure.

    What was made is held: some 10 kB an image.
    """

    def __init__(self, desk: Desk):
        by_content = desk.by_content
        self._candidates = _Thumbnails(
            {key: (c.image_id, c.shard) for key, c in by_content.items()}, desk.fetch_candidates
        )
        places = {f"{i}": desk.failure_shards.get(f.image_id) for i, f in enumerate(desk.failures)}
        self._failures = _Thumbnails(
            {
                key: (desk.failures[int(key)].image_id, shard)
                for key, shard in places.items()
                if shard is not None
            },
            desk.fetch_failures,
        )

    def of_candidate(self, content: str) -> bytes | None:
        """Give the WebP of a candidate; None where its picture is gone or does not decode."""
        return self._candidates.get(content)

    def of_failure(self, number: str) -> bytes | None:
        """Give the WebP of a failure, by its place in the desk; None as above."""
        return self._failures.get(number)


class _Thumbnails:
    """places: id and shard of an image, by key."""

    def __init__(self, places: Mapping[str, tuple[str, str]], fetch: Fetch):
        self._places, self._fetch = places, fetch
        self._of_shard: dict[str, list[str]] = defaultdict(list)
        for key, (_, shard) in places.items():
            self._of_shard[shard].append(key)
        self._locks = {shard: threading.Lock() for shard in self._of_shard}
        self._made: dict[str, bytes | None] = {}

    def get(self, key: str) -> bytes | None:
        if key not in self._places:
            return None
        shard = self._places[key][1]
        with self._locks[shard]:
            if key not in self._made:
                self._make(key, self._of_shard[shard])
        return self._made[key]

    def _make(self, key: str, of_shard: list[str]) -> None:
        """Make the next ones of the shard too: a page asks for them in its order."""
        start = of_shard.index(key)
        keys = [k for k in of_shard[start : start + _AT_ONCE] if k not in self._made]
        ids, shards = zip(*(self._places[k] for k in keys), strict=True)
        found = self._fetch(pa.table({"image_id": list(ids), "shard": list(shards)}))
        for k, image_id in zip(keys, ids, strict=True):
            data = found.get(image_id)
            self._made[k] = None if data is None else thumbnail(data, MAX_SIDE_PX)
